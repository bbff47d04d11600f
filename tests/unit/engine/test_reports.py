"""Outcomes of executors: the quick way for plain successes reads what the full check reads."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from google.protobuf.duration_pb2 import Duration

from dalsegno.engine.executors.reports import UnfitReport, check_report, read_plain_report, read_report
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import executor_service_pb2 as wire

EXECUTION = "01890a5d-ac96-774b-bcce-b302099a8057"
PLAIN: dict[str, Any] = {
    "action_execution_id": f"{EXECUTION}.1.0.1",
    "delivery": 1,
    "outcome": wire.TASK_OUTCOME_SUCCEEDED,
    "result": '{"a": 1}',
    "elapsed": Duration(seconds=1, nanos=5),
}
OTHERS: dict[str, tuple[Any, ...]] = {
    "action_execution_id": (
        *("", EXECUTION, f"{EXECUTION}.1", f"{EXECUTION}.1.0.1.1", f"{EXECUTION}.1.0.-1", f"{EXECUTION}.1.0.1\n"),
        *(
            f"{EXECUTION}.999999999.0.1",
            f"{EXECUTION}.1000000000.0.1",
            f"{EXECUTION.upper()}.1.0.1",
            f"{EXECUTION}.\N{ARABIC-INDIC DIGIT ONE}.0.1",
        ),
    ),
    "delivery": (0, -1, 2, 2**31 - 1),
    "outcome": (*range(8), 99),
    "result": ("", "null", "[1", "[NaN]", '"a\0"', '"\\u0000"', '"\\ud800"', "1" * 30, "[" * 2_000 + "]" * 2_000),
    "error": ("no", "\0"),
    "alias": ("other", "\0"),
    "elapsed": (
        *(None, Duration(), Duration(seconds=-1), Duration(nanos=-1), Duration(nanos=10**9)),
        *(Duration(seconds=1, nanos=-1), Duration(seconds=366 * 86_400), Duration(seconds=2**62)),
    ),
    "completion_timeout": (Duration(), Duration(seconds=-1)),
    "heartbeat_timeout": (Duration(), Duration(seconds=5)),
    "progress": (execution_pb2.ActionProgress(), execution_pb2.ActionProgress(text="half")),
    "signature": (*execution_pb2.SignatureScheme.values(), 77),
}


def reports() -> list[wire.TaskDone]:
    """Return the plain report, and every report that differs from it in one field or in two."""
    found = [wire.TaskDone(**PLAIN)]
    for count in (1, 2):
        for names in combinations(OTHERS, count):
            chosen: list[dict[str, Any]] = [{}]
            for name in names:
                chosen = [{**each, name: value} for each in chosen for value in OTHERS[name]]
            found += [wire.TaskDone(**{**PLAIN, **each}) for each in chosen]
    return found


def test_the_quick_way_reads_what_the_full_check_reads() -> None:
    """What it accepts is the same event; what the full check refuses is refused."""
    quick = 0
    for report in reports():
        try:
            expected = check_report(report)
        except UnfitReport:
            assert read_plain_report(report) is None, report
            continue
        plain = read_plain_report(report)
        assert plain in (None, expected), report
        assert read_report(report) == expected
        quick += plain is not None
    assert quick > 20


def test_every_field_of_an_outcome_is_known_here() -> None:
    """A new field of TaskDone needs a place in `read_plain_report`, and its values above."""
    assert {each.name for each in wire.TaskDone.DESCRIPTOR.fields} == PLAIN.keys() | OTHERS.keys()
