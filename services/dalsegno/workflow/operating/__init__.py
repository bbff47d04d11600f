"""Operations on an execution: pause, resume, cancel, rerun, edit. Each is checked as a whole before anything
changes."""
