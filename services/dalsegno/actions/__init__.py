"""What tasks do: the port that an action is written against, and the built-in families."""
