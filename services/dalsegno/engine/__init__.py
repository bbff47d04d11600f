"""The service that steps executions: the only one that writes the store."""
