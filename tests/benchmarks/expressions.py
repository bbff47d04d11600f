"""What expressions cost, in microseconds: `python -m tests.benchmarks.expressions`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.compile import ExpressionProblem, compile_template
from dalsegno.expressions.language import MISTRAL, ORQUESTA, Language
from dalsegno.workflow.scope import Template

LARGE = 10_000
"""Variables in the context that must not matter."""
ISOLATED_S = 0.000_3
"""What takes longer is taken to run in the evaluation process."""
CASES: tuple[tuple[Language, str, float | None], ...] = (
    (MISTRAL, "<% $.a.b %>", 2.0),
    (MISTRAL, "<% $.list.where($.x > 1).select($.y) %>", 10.0),
    (MISTRAL, "{{ _.a.b }}", 10.0),
    (MISTRAL, "<% $.a.b + 1 %>", None),
    (MISTRAL, "{{ _.a.b + 1 }}", None),
    (MISTRAL, "n = {{ _.a.b }}", None),
    (MISTRAL, "<% $.text =~ 'a.c' %>", None),
    (ORQUESTA, "<% ctx().a.b %>", 2.0),
    (ORQUESTA, "<% ctx(a).b %>", 2.0),
    (ORQUESTA, "<% ctx().list.where($.x > 1).select($.y) %>", 10.0),
    (ORQUESTA, "{{ ctx().a.b }}", 10.0),
    (ORQUESTA, "{{ ctx('a').b }}", 10.0),
    (ORQUESTA, "<% succeeded() and ctx().a.b < 2 %>", None),
    (ORQUESTA, "{{ ctx().a.b + 1 }}", None),
    (ORQUESTA, "n = {{ ctx().a.b }}", None),
)


class SilentScope(PlainScope):
    """A scope that keeps no record of questions, and takes as long to spend of its steps as the core's own."""

    def variable(self, name: str) -> object:
        return self.values[name]


@dataclass
class Measurement:
    """One line of the table; times in microseconds."""

    expression: str
    small_us: float
    large_us: float
    limit_us: float | None
    problems: list[str] = field(default_factory=list)


def measure_expressions() -> list[Measurement]:
    """Each case over a small context and over one with LARGE more variables."""
    small: dict[str, object] = {
        "a": {"b": 1},
        "list": [{"x": number, "y": number} for number in range(10)],
        "text": "abc",
    }
    large = {**small, **{f"other {number}": {"value": [number]} for number in range(LARGE)}}
    found = []
    for language, expression, limit_us in CASES:
        template = _compile(expression, language)
        times = [_time_us(template, SilentScope(values)) for values in (small, large)]
        found.append(Measurement(expression, times[0], times[1], limit_us))
    return found


def measure_compilation(tasks: int = 1_000) -> float:
    """Seconds to compile as many inputs, each with two YAQL and one Jinja expression of its own."""
    inputs = [
        {"a": f"<% $.result_{number}.value %>", "b": f"<% $.n + {number} %>", "c": f"x {{{{ _.v{number} }}}}"}
        for number in range(tasks)
    ]
    _compile("<% 1 %>")  # The library's parser is built once per process.
    started = time.perf_counter()
    for value in inputs:
        _compile(value)
    return time.perf_counter() - started


def _compile(value: object, language: Language = MISTRAL) -> Template:
    problems: list[ExpressionProblem] = []
    template = compile_template(value, problems.append, language=language)
    if problems:
        raise ValueError(problems[0].message)
    return template


def _time_us(template: Template, scope: PlainScope, seconds: float = 0.1) -> float:
    """The best of five: what the machine does besides only ever adds."""
    template.evaluate(scope)
    started = time.perf_counter()
    template.evaluate(scope)
    once_s = max(time.perf_counter() - started, 1e-7)
    # Processor time does not count what else the machine does; nor does it the process that slow expressions run in.
    clock = time.process_time if once_s < ISOLATED_S else time.perf_counter
    rounds = max(int(seconds / once_s), 5)
    best = float("inf")
    for _ in range(5):
        started = clock()
        for _ in range(rounds):
            template.evaluate(scope)
        best = min(best, (clock() - started) / rounds)
    return best * 1e6


def main() -> None:
    """Print the table."""
    print(f"{'expression':44} {'us':>8} {f'us, {LARGE:,} more':>16} {'limit':>6}")
    for line in measure_expressions():
        limit = f"{line.limit_us:6.0f}" if line.limit_us else ""
        print(f"{line.expression:44} {line.small_us:8.2f} {line.large_us:16.2f} {limit}")
    print(f"compiling 1,000 tasks: {measure_compilation():.2f} s")


if __name__ == "__main__":
    main()
