"""A pool of evaluation processes: jobs without a known bound run there, within limits, without delaying others.

One thread of the owner's process (`process_group.py`) communicates with all processes. They are forked by a template
process (`template.py`), which is started once and has everything imported, so that a new one costs a few
milliseconds. Each (`worker.py`) does one job at a time, requests what the job needs from its scope, and is killed
when it exceeds its limits; only that job is affected. Begin with `pool.py`.
"""
