"""A durable workflow engine made of gRPC services, which runs Mistral v2 and Orquesta workflows."""
