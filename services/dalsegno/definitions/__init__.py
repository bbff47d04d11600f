"""YAML in, compiled workflow out, or every problem of the document with its line and path."""
