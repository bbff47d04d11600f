"""The store: the current state (rows) and how it came about (the journal), behind one port."""
