"""A short run of scripts/fuzz, which runs longer by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fuzz.inputs import Kind, draw_here, draw_wire, read_input
from tests.fuzz.run import PASSING, Length, run
from tests.hostile.run import seed_of_the_day

SECONDS = 120.0


@pytest.mark.timeout(400)
@pytest.mark.xdist_group("fuzz")
async def test_no_input_harms_a_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Odd requests, streams, bodies, headers, tokens, definitions and expressions end no service, hang none, show no
    client a fault, and leave a store in which rows equal journals; so do those that were found before."""
    report = await run(tmp_path, seed_of_the_day(), Length(10**9, SECONDS))
    with capsys.disabled():
        print(f"\nfuzz: {report}")
    assert report.faults == []
    assert report.share >= PASSING
    assert {kind for kind in Kind if not report.sent[kind]} == set()


def test_an_input_is_made_again() -> None:
    """The same seed and number make the same input, and what is printed of it makes it, too."""
    for draw in (draw_wire, draw_here):
        for number in range(60):
            sent = draw(7, number)
            assert draw(7, number) == sent
            again = read_input(sent.written())
            assert (again.kind, again.target, again.parts, again.headers) == (
                sent.kind,
                sent.target,
                sent.parts,
                sent.headers,
            )
            assert sent.shown()
