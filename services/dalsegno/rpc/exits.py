"""How services end: the exit codes by which a supervisor knows whether another start helps."""

CANNOT_RUN = 78
"""The exit code of a service whose database or keys are unfit, which another start does not change: EX_CONFIG of
`sysexits.h`."""
