"""The recorded cases: ours are in the repository, the others may be beside the checkout."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from tests.conformance.cases import copy_own
from tests.conformance.recorded import (
    FILES,
    OWN_FOLDER,
    absence,
    is_own,
    load,
    others_folder,
    read_lines,
    select_own,
)


def test_our_cases_are_in_the_repository() -> None:
    """Each file has cases, all of them written for this project, 371 or more together."""
    own = {name: [json.loads(line) for line in read_lines(OWN_FOLDER / name)] for name in FILES}
    assert all(cases and all(map(is_own, cases)) for cases in own.values())
    assert sum(map(len, own.values())) >= 371


def test_absent_cases_of_ours_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the project's own cases nothing runs, also when the others are there."""
    monkeypatch.setattr("tests.conformance.recorded.OWN_FOLDER", tmp_path)
    for name in FILES:
        with pytest.raises(FileNotFoundError, match=name):
            load(name)


def test_no_case_is_run_twice() -> None:
    """Each id is there once, although the recordings have ours too."""
    ids = Counter(case["id"] for name in FILES for case in load(name))
    assert [each for each, count in ids.items() if count > 1] == []


def test_our_cases_equal_the_recordings() -> None:
    """`cases/` has every recorded case that is ours, in its order and with the same text."""
    if told := absence():
        pytest.skip(told)
    for name in FILES:
        recorded = select_own(read_lines(others_folder() / name))
        assert read_lines(OWN_FOLDER / name) == recorded, "run python -m tests.conformance.cases.copy_own"


def test_ours_run_without_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the others are absent, ours are loaded, and the runner says what is missing."""
    monkeypatch.setenv("DALSEGNO_CONFORMANCE", str(tmp_path))
    assert all(map(is_own, load("orquesta/operations.jsonl")))
    assert len(load("orquesta/operations.jsonl")) > 40
    assert str(tmp_path) in absence()
    assert all(name in absence() for name in FILES)


def test_ours_are_copied_from_the_recordings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The copy has the lines of ours as they are and no other; without recordings it changes nothing."""
    ours, other = '{"source": "probe",  "id": "é"}', '{"source": "test_joins.py:7", "id": "b"}'
    recordings, copies = tmp_path / "recordings", tmp_path / "copies"
    monkeypatch.setenv("DALSEGNO_CONFORMANCE", str(recordings))
    monkeypatch.setattr(copy_own, "OWN_FOLDER", copies)
    assert copy_own.main() == 2
    assert not copies.exists()
    assert str(recordings) in capsys.readouterr().err
    copies.mkdir()
    for name in FILES:
        (recordings / name).parent.mkdir(parents=True, exist_ok=True)
        (recordings / name).write_text(f"{ours}\n{other}\n", encoding="utf-8")
    assert copy_own.main() == 0
    assert [(copies / name).read_text(encoding="utf-8") for name in FILES] == [f"{ours}\n"] * 4
