"""Parts of `apply` in files of their own; only execution.py imports them."""
