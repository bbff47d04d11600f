"""The command: what it plays, its report and its exit code."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from tests.ports import free_address
from tests.unit.executor_check import toy

from dalsegno.executor_check.__main__ import FAILED, PASSED, UNUSABLE, USAGE, main
from dalsegno.executor_check.checks import CHECKS
from dalsegno.executor_check.report import COLUMNS


def run(*arguments: str) -> int:
    """Run the command with a toy as its executor; the exit code."""
    address = free_address()
    return main(["--listen", address, *arguments, "--", sys.executable, str(toy.__file__), address])


def test_a_report_says_what_was_expected_what_came_and_the_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text of at most 80 columns, and as JUnit XML. The toy ends at SIGTERM without a word."""
    file = tmp_path / "report.xml"

    names = ("stop-says-goodbye", "stop-loses-nothing", "hello-comes-first")
    code = run(*(word for name in names for word in ("--only", name)), "--junit", str(file))

    text = capsys.readouterr().out
    assert code == FAILED
    assert max(map(len, text.splitlines())) <= COLUMNS
    for part in ("hello-comes-first  ", "passed", "FAILED", "    expected  Goodbye", "    came ", "    rule      Exec"):
        assert part in text
    assert text.endswith("3 checks: 1 passed, 2 failed, 0 skipped\n")
    (suite,) = ElementTree.parse(file).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "2", "0")
    assert [case.get("name") for case in suite] == ["hello-comes-first", "stop-says-goodbye", "stop-loses-nothing"]
    assert [(suite[1][0].tag, "Goodbye" in str(suite[1][0].get("message")))] == [("failure", True)]


def test_what_an_executor_need_not_serve_is_skipped_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check with an action under another name is played; one that nobody serves, or that needs more, is skipped."""
    names = ("delegated-holds-no-slot", "inventory-follows-the-end-of-the-stream", "result-is-exact")

    code = run(*(word for name in names for word in ("--only", name)), "--action", "delegate=my.delegate")

    text = capsys.readouterr().out
    assert code == PASSED
    assert "because   it does not serve my.delegate" in text
    assert "because   it needs the address of a second engine (--second)" in text
    assert text.endswith("3 checks: 1 passed, 0 failed, 2 skipped\n")


def test_the_list_names_each_check_with_its_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """--list prints all of them, and plays nothing."""
    assert main(["--list"]) == PASSED
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if not line.startswith(" ")] == [check.name for check in CHECKS]
    assert max(map(len, text.splitlines())) <= COLUMNS


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--only", "hello-comes"), "is it hello-comes-first?"),
        (("--action", "wait=my.wait"), "ROLE is one of echo, sleep, fail"),
        (("--action", "echo"), "give ROLE=NAME"),
    ],
)
def test_a_wrong_option_says_what_is_right(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, and nothing is played."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == USAGE
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--", "no-such-program"), "no-such-program"),
        (("--", "false"), "no executor has connected to"),
        (("--", "false"), "its process has ended with exit code 1"),
        (("--second", "nowhere:0", "--listen", "192.0.2.1:1"), "192.0.2.1:1"),
    ],
)
def test_a_check_that_cannot_be_made_is_no_failed_check(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 3, and the reason is told at once: an address, a program that is not there or ends."""
    assert main(["--listen", free_address(), *arguments]) == UNUSABLE
    assert told in capsys.readouterr().err
