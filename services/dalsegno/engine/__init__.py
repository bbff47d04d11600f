"""The service that steps executions. Only it writes the store."""
