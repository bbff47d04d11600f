"""What is true now (rows) and how it came about (the journal), behind one port."""
