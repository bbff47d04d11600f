"""Workflows to read, copy and run: `dalsegno examples`."""
