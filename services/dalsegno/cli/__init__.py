"""The command line: a client of the public API, without special rights."""
