"""Evaluate the text of an expression with a context to a JSON value, within a budget."""
