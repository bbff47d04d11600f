"""Keeps the tests of an `xdist_group` in one process, so that they share the services of their module, and reads only
files with the mark `alone` when only such tests are wanted.

pytest-xdist 3.8 passes the group on in the id of a test, in a field that pytest 9.2 does not read any more: without
this the mark has no effect, and each process starts the services again (pytest-xdist, issue 1386).
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a file without the mark `alone` where only tests that have it are wanted: reading all takes longer."""
    is_in_question = config.option.markexpr == "alone" and collection_path.is_file()
    return True if is_in_question and "mark.alone" not in collection_path.read_text() else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the group to the id of each test that has one, where the scheduler reads it."""
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        for mark in item.iter_markers("xdist_group"):
            grouped = f"{item.nodeid}@{mark.args[0]}"
            item._id = type(item.id).parse(grouped)
            break


def pytest_configure(config: pytest.Config) -> None:
    """Let the process that prints and records results use the ids without groups, and SIGINT end what tests start: a
    shell has programs in the background ignore it, and all that they start inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_PlainIds())


class _PlainIds:
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Report a test by its own id, which can be given to pytest again, as `--last-failed` does."""
        name, at, group = report.nodeid.rpartition("@")
        if at and "]" not in group:
            report.nodeid = name
