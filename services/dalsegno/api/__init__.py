"""The service behind the public contract: checks, reads, watches, and forwards writes to an engine."""
