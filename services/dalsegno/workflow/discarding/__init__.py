"""What an execution does not need any more is discarded while it goes on (decision 24)."""
