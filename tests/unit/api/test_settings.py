"""The settings of an api."""

from __future__ import annotations

import pytest

from dalsegno.api.settings import read_settings


def test_signs_of_life_are_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """How long the stream of a watcher may be quiet is an option or a variable, and at least a second."""
    assert read_settings([], {}).progress_s == 15
    assert read_settings([], {"DALSEGNO_API_PROGRESS_S": "2"}).progress_s == 2
    assert read_settings(["--progress-s", "1"], {}).progress_s == 1
    for given in ("0.5", "nan"):
        with pytest.raises(SystemExit):
            read_settings(["--progress-s", given], {})
        assert "--progress-s must be at least 1" in capsys.readouterr().err
