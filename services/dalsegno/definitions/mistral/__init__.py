"""The Mistral v2 language: what an author may write, and the workflow that results."""
