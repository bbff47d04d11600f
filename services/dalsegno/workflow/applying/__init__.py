"""Parts of `apply` that are long enough for files of their own; only execution.py imports them."""
