"""What people ask of an execution: pause, resume, cancel, rerun, edit; checked as a whole before anything changes."""
