"""The command line: a client of the public contract like any other."""
