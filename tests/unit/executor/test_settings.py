"""Settings come from options, else from the environment, else from defaults."""

from __future__ import annotations

import pytest

from dalsegno.actions.limits import Limits
from dalsegno.executor.settings import read_settings


def test_an_option_wins_over_the_environment() -> None:
    """An option replaces the environment, and the environment replaces the default."""
    settings = read_settings(
        ["--engine", "127.0.0.1:1", "--engine", "127.0.0.1:2", "--slots", "5", "--label", "zone=north"],
        {"DALSEGNO_ENGINE": "127.0.0.1:3", "DALSEGNO_EXECUTOR_SLOTS": "7", "DALSEGNO_EXECUTOR_THREADS": "3"},
    )

    assert settings.engines == ("127.0.0.1:1", "127.0.0.1:2")
    assert (settings.slots, settings.threads, settings.labels) == (5, 3, {"zone": "north"})


def test_the_environment_may_name_several_engines() -> None:
    """The environment lists engines with commas; each counts once."""
    settings = read_settings([], {"DALSEGNO_ENGINE": "127.0.0.1:3,127.0.0.1:4, 127.0.0.1:3"})

    assert settings.engines == ("127.0.0.1:3", "127.0.0.1:4")


def test_labels() -> None:
    """Labels come from options, else from the environment; what is none is refused."""
    assert read_settings(["--label", "zone=north", "--label", "gpu="], {}).labels == {"zone": "north", "gpu": ""}
    assert read_settings([], {"DALSEGNO_EXECUTOR_LABELS": "zone=north,disk=ssd"}).labels == {
        "zone": "north",
        "disk": "ssd",
    }
    with pytest.raises(SystemExit):
        read_settings(["--label", "zone"], {})


def test_limits_of_actions() -> None:
    """A limit is a number, a rate or both; the environment lists several with spaces."""
    limits = {"std.http": Limits(20, 10, 1.0), "std.email": Limits(None, 600, 60.0)}

    assert read_settings(["--limit", "std.http=20,10/s", "--limit", "std.email=600/min"], {}).limits == limits
    assert read_settings([], {"DALSEGNO_EXECUTOR_LIMITS": "std.http=10/s,20 std.email=600/min"}).limits == limits
    assert read_settings(["--limit", "std.ssh=3"], {}).limits == {"std.ssh": Limits(3)}


@pytest.mark.parametrize(
    "wrong", ["std.http", "std.http=", "std.http=0", "std.http=1/y", "std.http=0/s", "std.http=1,2"]
)
def test_a_limit_that_is_none_is_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The error shows the text, and what it may be."""
    with pytest.raises(SystemExit):
        read_settings(["--limit", wrong], {})
    assert f"--limit {wrong}: the " in capsys.readouterr().err


def test_executors_without_a_name_differ() -> None:
    """A default id has the machine and the process: two executors with one id would end each other's sessions."""
    assert read_settings([], {}).id.rpartition("-")[2].isdigit()


@pytest.mark.parametrize("wrong", [["--slots", "0"], ["--threads", "0"], ["--slots", "many"]])
def test_an_executor_without_slots_is_refused(wrong: list[str]) -> None:
    """An executor without slots would never get an action."""
    with pytest.raises(SystemExit):
        read_settings(wrong, {})
