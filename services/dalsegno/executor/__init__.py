"""The service that runs actions and reports their outcomes until they are acknowledged."""
