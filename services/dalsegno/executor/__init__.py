"""The standard executor: runs the built-in actions and those of installed packages."""
