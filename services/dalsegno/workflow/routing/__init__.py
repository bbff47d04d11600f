"""From an ended task to what follows it."""
