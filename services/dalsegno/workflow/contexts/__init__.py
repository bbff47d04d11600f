"""How the variables that tasks see are kept and merged."""
