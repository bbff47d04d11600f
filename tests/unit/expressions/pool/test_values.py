"""What the processes evaluate, and what they ask for it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace

import pytest
from tests.unit.expressions.pool.asking import SCOPE, Known, outcome_of, yaql
from tests.unit.expressions.scopes import PlainScope

from dalsegno.expressions.compile import compile_template
from dalsegno.expressions.pool.jobs import Question, Unknown
from dalsegno.expressions.pool.limits import Limits
from dalsegno.expressions.pool.pool import Pool
from dalsegno.expressions.pool.replies import digest_of
from dalsegno.workflow.scope import EvaluationError

pytestmark = pytest.mark.xdist_group("pool-values")


@pytest.mark.parametrize(
    ("notation", "text", "value"),
    [
        ("yaql", "$.s =~ 'a.c'", True),
        ("yaql", "regex('[ac]').split($.s)", ["", "b", ""]),
        ("yaql", "$.l.toSet()", [1, 2, 3]),
        ("yaql", "task(t1).name + execution().id + env().k", "t1execution-1value"),
        ("yaql", "tasks(e, true).name", ["first", "second"]),
        ("yaql", "$.len()", 3),
        ("yaql", "$.get(nope, 1)", 1),
        ("yaql", "executions(id => x).first().asked", {"id": "x"}),
        ("yaql", "global(g)", 5),
        ("yaql", "12345678901234567890123 + 1", 12345678901234567890124),
        ("jinja", "{{ _.l | map('string') | batch(2) | list }}", [["3", "1"], ["2"]]),
        ("jinja text", "{% for x in _.l %}{{ loop.index }}:{{ x }} {% endfor %}", "1:3 2:1 3:2 "),
    ],
)
def test_values_from_the_processes(pool: Pool, notation: str, text: str, value: object) -> None:
    """Expressions of both languages are evaluated there and ask back for what they need."""
    assert pool.evaluate(replace(yaql(text), notation=notation), SCOPE) == value


def test_same_chance_on_both_sides(pool: Pool) -> None:
    """uuid() is the same in a process as here: it depends on the event and the place alone."""
    here = compile_template("<% uuid() %>", print, ("a",)).evaluate(SCOPE)
    assert pool.evaluate(yaql("uuid()", place="a"), SCOPE) == here


def test_order_of_sets_is_the_same_in_all_processes(pool: Pool) -> None:
    """What an expression makes of the order of a set depends on no process and no engine."""
    words = "ABCDEFGH"
    ordered = subprocess.run(
        [sys.executable, "-c", f"print(''.join(frozenset({words!r})))"],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert pool.evaluate(yaql(f"[{','.join(words)}].toSet().join('')")) == ordered


def test_what_is_compiled_runs_compiled(pool: Pool) -> None:
    """The processes run the closures, and not the library: that one does not know this function."""
    assert pool.evaluate(yaql("[1, 2].select(planted_sleep(0) + $)")) == [1, 2]


@pytest.mark.parametrize(
    ("notation", "text", "cause"),
    [
        ("yaql", "$.nope =~ a", "<% $.nope =~ a %>: there is no key 'nope'"),
        ("yaql", "regex('(')", "error: missing ), unterminated subpattern at position 0"),
        ("yaql", "1 +", "<% 1 + %>: unexpected end of the expression"),
        ("yaql", "range(0, 2000000).len()", "it takes more than 1,000,000 steps"),
        ("yaql", "planted_unfit(surrogate)", "<% planted_unfit(surrogate) %>: it gives a text with half a surrogate"),
        ("yaql", "[planted_unfit(nul)]", "it gives a text with a NUL character"),
        ("yaql", "planted_unfit(long)", "<% planted_unfit(long) %>: it gives what cannot be written as JSON"),
        ("yaql", "planted_fault(oh)", "<% planted_fault(oh) %>: ValueError: oh \\ud800\\x00"),
        ("jinja", "{{ _.l | nope }}", "{{ _.l | nope }}: "),
        ("jinja", "{{ ''.__class__.mro() }}", "unsafe"),
        ("jinja", "{{ _.l.append(1) }}", "unsafe"),
    ],
)
def test_errors_from_the_processes(pool: Pool, notation: str, text: str, cause: str) -> None:
    """What fails there is an ordinary error here, as a valid text, and the process continues."""
    before = {pool.evaluate(yaql("planted_pid()")) for _ in range(20)}
    with pytest.raises(EvaluationError) as failure:
        pool.evaluate(replace(yaql(text), notation=notation), SCOPE)
    assert cause in str(failure.value)
    assert {pool.evaluate(yaql("planted_pid()")) for _ in range(20)} <= before


@pytest.mark.parametrize(
    "template",
    ["<% $.s =~ 'a+' %>", "{% for x in _.l %}{{ x }}{% endfor %}", "{{ 'a' * 3 }}", "{{ _.l | batch(2) | list }}"],
)
def test_templates_use_a_pool(template: str) -> None:
    """What has no budget of its own goes there by itself."""
    assert compile_template(template, print).evaluate(SCOPE)


def test_a_caller_is_asked_in_its_own_thread(pool: Pool) -> None:
    """Its scope may read a store, which belongs to that thread."""
    threads: list[int] = []

    class Watching(PlainScope):
        def variable(self, name: str) -> object:
            threads.append(threading.get_ident())
            return super().variable(name)

    assert pool.evaluate(yaql("$.s =~ 'a.c'"), Watching({"s": "abc"})) is True
    assert set(threads) == {threading.get_ident()}


def test_a_caller_that_cannot_answer_ends_its_job(pool: Pool) -> None:
    """What its scope raises comes to the caller when it is no answer, and the processes continue."""

    class Broken(PlainScope):
        def variable(self, name: str) -> object:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.evaluate(yaql("$.s =~ 'a.c'"), Broken())
    assert pool.evaluate(yaql("$.s =~ 'a.c'"), SCOPE) is True


def test_what_nobody_knows_is_needed(pool: Pool) -> None:
    """The job ends with the question; submitted again with the answer, it has its value."""
    job = yaql("regex($.a).matches($.b)")
    first = outcome_of(pool, job)
    assert first.needed == (Question("variable", ["a"], {}),)
    assert (first.value, first.error, first.asked) == (None, "", ())
    second = outcome_of(pool, job, Known({"a": "x+"}))
    assert second.needed == (Question("variable", ["b"], {}),)
    third = outcome_of(pool, job, Known({"a": "x+", "b": "xx"}))
    assert (third.value, third.needed) == (True, ())


def test_what_a_job_was_told_is_kept_by_digest(pool: Pool) -> None:
    """Each question stands once, with a digest that is the same as long as the answer is, in whatever order it has its
    keys; what is missing and what is refused are answers too."""
    job = yaql("[$.d, $.d, $.get(nope, 1), global(g), executions(id => x)]")
    known = Known({"d": {"x": 1, "y": [2**70]}}, PlainScope())
    outcome = outcome_of(pool, job, known)
    assert outcome.error == ""
    assert [asked.question for asked in outcome.asked] == [
        Question("variable", ["d"], {}),
        Question("variable", ["nope"], {}),
        Question("global_variable", ["g"], {}),
        Question("executions", [], {"id": "x"}),
    ]
    assert [digest_of(known, asked.question) for asked in outcome.asked] == [asked.digest for asked in outcome.asked]
    question = outcome.asked[0].question
    assert digest_of(Known({"d": {"y": [2**70], "x": 1}}), question) == outcome.asked[0].digest
    assert digest_of(Known({"d": {"x": 1, "y": [2**70 + 1]}}), question) != outcome.asked[0].digest
    missing = outcome.asked[1]
    assert digest_of(Known({"nope": None}), missing.question) != missing.digest
    with pytest.raises(Unknown):
        digest_of(Known(), question)


def test_a_refusal_is_an_answer(pool: Pool) -> None:
    """An error of the scope is the expression's error, and is kept by digest too."""
    outcome = outcome_of(pool, yaql("item()", language="orquesta"), Known({}, PlainScope()))
    assert "there is no item here" in outcome.error
    assert [asked.digest for asked in outcome.asked] == [digest_of(Known({}, PlainScope()), outcome.asked[0].question)]


def test_a_fault_of_the_answers_stops_nobody(pool: Pool) -> None:
    """It is an error of that job."""

    class Broken(Known):
        def answer(self, *asked: object) -> object:
            raise ZeroDivisionError("oh")

    assert "variable: ZeroDivisionError: oh" in outcome_of(pool, yaql("$.a =~ 'a'"), Broken()).error
    assert outcome_of(pool, yaql("1 + 1")).value == 2


def test_questions_are_bounded() -> None:
    """A job cannot keep the process busy that answers, also within its time, which is long here."""
    everything = Known({str(number): number for number in range(20_000)})
    patient = Pool(1, limits=Limits(processor_s=20.0, clock_s=60.0))
    with closing(patient):
        outcome = outcome_of(patient, yaql("range(0, 20000).select(ctx(str($)))", language="orquesta"), everything)
    assert "it asks for more than 10,000 things of its execution" in outcome.error
    assert len(outcome.asked) == 10_000
