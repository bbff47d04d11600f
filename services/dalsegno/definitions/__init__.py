"""Compile YAML documents to workflows, or find every problem with its line and path."""
