"""The text of an expression and a context in, a JSON value out, within a budget."""
