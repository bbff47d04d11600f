"""Definitions read in processes of their own: they say the same, and cost the others nothing."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.engines import until
from tests.unit.definitions.long_texts import mistral, orquesta
from tests.unit.expressions.pool.family import children, templates

from dalsegno import examples
from dalsegno.definitions import reading
from dalsegno.definitions.document import Document, read
from dalsegno.definitions.document_set import Text
from dalsegno.definitions.reading import MODULE, is_short
from dalsegno.expressions.budget import STEPS_HERE, BudgetHere, NeedsPool
from dalsegno.expressions.environment import EnvironmentScope
from dalsegno.expressions.jinja import compile_jinja_expression
from dalsegno.expressions.pool.pool import Pool
from dalsegno.expressions.yaql.evaluate import YaqlExpression, compile_yaql
from dalsegno.rpc.reading import read_together
from dalsegno.workflow.refusals import InvalidRequest

pytestmark = pytest.mark.xdist_group("reading")

EXAMPLES = sorted(Path(next(iter(examples.__path__))).glob("**/*.yaml"))
SCOPE = EnvironmentScope({"a": [1, 2, 3]}, 0.0, "")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """One that is only for definitions."""
    pool = Pool(0, calls=1, modules=(MODULE,))
    yield pool
    pool.close()


async def read_one(pool: Pool, text: Text) -> Document:
    """One document alone."""
    (document,) = await read_together(pool, [text])
    return document


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_copy_of_a_document_is_the_document(path: Path) -> None:
    """What another process has read is what this one would have read."""
    document = read(path.read_text(), name="example.workflow")
    copy = pickle.loads(pickle.dumps(document))
    assert (copy.kind, copy.language, copy.problems) == (document.kind, document.language, document.problems)
    for mine, theirs in zip(document.members, copy.members, strict=True):
        assert (mine.kind, mine.name, mine.tags, mine.defaults) == (
            theirs.kind,
            theirs.name,
            theirs.tags,
            theirs.defaults,
        )
        if mine.workflow is not None:
            assert theirs.workflow is not None
            assert list(theirs.workflow.tasks) == list(mine.workflow.tasks)
            assert theirs.workflow.spec == mine.workflow.spec


@pytest.mark.parametrize("text", [mistral(40_000), orquesta(40_000)], ids=["mistral", "orquesta"])
async def test_a_long_text_is_read_elsewhere(text: str, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is read in this process, and the answer is the same."""
    expected = read(text, name="a.b")
    monkeypatch.setattr(reading, "read", None)
    found = await read_one(pool, Text(text, "a.b"))
    assert not is_short(text)
    assert (found.problems, found.warnings, found.language) == (expected.problems, expected.warnings, expected.language)
    (mine,), (theirs,) = expected.members, found.members
    assert mine.workflow is not None
    assert theirs.workflow is not None
    assert list(theirs.workflow.tasks) == list(mine.workflow.tasks)


def test_short_texts() -> None:
    """What is read in this process is short, and stays so."""
    assert is_short("version: 1.0")
    assert not is_short("x" * 20_000)
    assert not is_short("a: &a [1]\nb: [*a, *a]")


async def test_problems_come_back_with_their_places(pool: Pool) -> None:
    """As many as are listed, and how many there are beside them."""
    text = mistral(40_000).replace("std.echo", "<% 1 + %>")
    found = await read_one(pool, Text(text))
    assert found.problems == read(text).problems
    assert found.problems[0].line > 1


async def test_an_outline_has_what_is_called_and_nothing_compiled(pool: Pool) -> None:
    """To store a document it is needed the other way round."""
    text = orquesta(40_000).replace("core.echo", "pack.unknown", 3)
    (outline,) = await read_together(pool, [Text(text, "a.b")], is_outline=True)
    assert "pack.unknown" in {each.name for each in outline.calls}
    assert [(each.workflow, each.takes is None) for each in outline.members] == [(None, False)]
    whole = await read_one(pool, Text(text, "a.b"))
    assert (len(whole.calls), whole.members[0].workflow is None) == (0, False)


async def test_what_takes_too_much_is_refused(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time that it may take; the next one is read."""
    monkeypatch.setattr(reading, "READ_S", 0.2)
    with pytest.raises(InvalidRequest, match=r"text: reading the definition: it takes more than 0\.2 s"):
        await read_one(pool, Text(mistral(1_000_000)))
    monkeypatch.undo()
    assert (await read_one(pool, Text(mistral(20_000)))).problems == ()


async def test_a_caller_that_has_gone_takes_nothing(pool: Pool) -> None:
    """The process ends with it. It is stopped here, so that it would keep the pool's one place for a minute."""

    def processes() -> set[int]:
        return {pid for template in templates() for pid in children(template)}

    before = processes()
    reading = asyncio.create_task(read_one(pool, Text(mistral(1_000_000))))
    await until(lambda: processes() - before)
    (pid,) = processes() - before
    os.kill(pid, signal.SIGSTOP)
    reading.cancel()
    async with asyncio.timeout(45):
        assert (await read_one(pool, Text(mistral(20_000)))).problems == ()


def test_expressions_are_compiled_when_they_are_evaluated_first() -> None:
    """In the engine that is paid for: a long one is moved."""
    long = f"[{', '.join(f'env().a[{number}]' for number in range(1_000))}]"
    for text, is_compiled in (("env().a.len()", True), (long, False)):
        copy: YaqlExpression = pickle.loads(pickle.dumps(compile_yaql(text)))
        assert copy.closure is None
        compile_yaql.cache_clear()
        budget = BudgetHere()
        if is_compiled:
            assert copy.value(SCOPE, budget) == 3
            assert 0 < STEPS_HERE - budget.steps < 1_000
            assert copy.closure is not None
        else:
            with pytest.raises(NeedsPool):
                copy.value(SCOPE, budget)
            assert copy.closure is None


def test_copies_of_jinja_expressions_are_compiled_anew() -> None:
    """And evaluate to the same."""
    expression = compile_jinja_expression("{{ env().a | length }}")
    assert expression.evaluate_here(SCOPE, "") == 3
    copy = pickle.loads(pickle.dumps(expression))
    assert copy.compiled is None
    assert copy.evaluate_here(SCOPE, "") == 3
    assert copy.language is expression.language
