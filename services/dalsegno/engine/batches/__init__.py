"""One batch is one transaction: claim, step, hand out, write, commit."""
