"""What follows a task that has ended."""
