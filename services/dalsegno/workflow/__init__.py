"""The core: a pure machine that turns events into changes and commands. No I/O, no clock, no chance."""
