"""The tests that scripts/mutate runs for each folder of services/dalsegno."""

from __future__ import annotations

CORE = ("tests/conformance", "tests/simulation")
LEFT_OUT = {
    "tests/conformance/test_services.py",
    "tests/unit/definitions/orquesta/test_time.py",
    "tests/unit/expressions/test_hostile.py",
}
"""They take minutes, watch other processes, or measure time, which recording makes longer."""
TESTS = {
    "workflow": ("tests/unit/workflow", *CORE),
    "expressions": ("tests/unit/expressions", "tests/unit/definitions", *CORE),
    "definitions": ("tests/unit/definitions", "tests/unit/api", *CORE),
    "engine": ("tests/unit/engine", "tests/unit/api"),
    "store": ("tests/unit/store", "tests/store", "tests/unit/engine", "tests/unit/api"),
}
"""First, those of these tests that run the changed line."""

SERVED = tuple(
    f"tests/integration/test_{name}.py"
    for name in (
        *("execution", "definitions", "controls", "operations_contract", "operations_meetings", "operations_pause"),
        *("operations_resume", "operations_rerun", "many", "progress", "wire", "engine_recovery", "engine"),
    )
)
FURTHER: dict[str, tuple[str, ...]] = {"engine": SERVED, "store": SERVED}
"""Then, if none of those fails, all of these: they start services as processes of their own, of which no line is
recorded."""
FURTHER_LIMIT_S = 900.0
FURTHER_TEST_LIMIT_S = 30
