"""Replies to the questions of jobs: in their sent form, and as digests that are equal for equal answers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from dalsegno.expressions.pool.frames import Kind
from dalsegno.expressions.pool.jobs import Answers, Question, Unknown
from dalsegno.expressions.pool.limits import MESSAGE_BYTES
from dalsegno.workflow.scope import EvaluationError, Scope

LARGE_BYTES = 64 * 1024
"""Longer data is cached in its sent form, for further questions about the same data."""
KEPT_BYTES = 8 * 1024 * 1024

_log = logging.getLogger("dalsegno.expressions.pool")


class Later(Exception):
    """The owner answers this question later (waiting.py)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a question."""

    kind: Kind
    """VALUE, MISSING or ERROR."""
    payload: bytes
    digest: str


class Replies:
    """Makes replies. Large data (by identity) is encoded once, because nothing changes it. Not thread-safe."""

    def __init__(self) -> None:
        self._large: OrderedDict[int, tuple[object, Reply]] = OrderedDict()
        self._kept_bytes = 0

    def look_up(self, answers: Answers, question: Question) -> Reply:
        """Return the reply to a question. Raises Unknown and Later."""
        try:
            found = answers.answer(question.name, question.arguments, question.named)
        except KeyError:
            return Reply(Kind.MISSING, b"", "missing")
        except EvaluationError as error:
            return _refusal(str(error))
        except (Unknown, Later):
            raise
        except Exception as error:  # an error of one scope must not stop the others
            _log.exception("the question %s has no answer", question.name)
            return _refusal(f"{question.name}: {type(error).__name__}: {error}")
        kept = self._large.get(id(found))
        if kept is not None:
            self._large.move_to_end(id(found))
            return kept[1]
        reply = _value(found)
        if len(reply.payload) > LARGE_BYTES:
            self._keep(found, reply)
        return reply

    def clear(self) -> None:
        """Clear the cache while there are no questions."""
        self._large.clear()
        self._kept_bytes = 0

    def _keep(self, data: object, reply: Reply) -> None:
        self._large[id(data)] = data, reply
        self._kept_bytes += len(reply.payload)
        while self._kept_bytes > KEPT_BYTES:
            _, (_, oldest) = self._large.popitem(last=False)
            self._kept_bytes -= len(oldest.payload)


def digest_of(answers: Answers, question: Question) -> str:
    """Return the digest of the current answer. Raises Unknown."""
    return Replies().look_up(answers, question).digest


def _value(data: object) -> Reply:
    try:
        payload = _write(data, sorted_keys=False)
        if len(payload) > MESSAGE_BYTES:
            return _refusal(f"it asks for more than {MESSAGE_BYTES // 1024 // 1024} MiB at once")
        canonical = _write(data, sorted_keys=True) if b"{" in payload else payload
    except (TypeError, ValueError, RecursionError) as error:
        return _refusal(f"what it asks for cannot be written as JSON: {error}")
    return Reply(Kind.VALUE, payload, _digest(canonical))


def _refusal(text: str) -> Reply:
    payload = printable(text)
    return Reply(Kind.ERROR, payload, f"error {_digest(payload)}")


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _write(data: object, *, sorted_keys: bool) -> bytes:
    """Encode data of a scope, which is JSON and needs no check; orjson refuses integers beyond 64 bits."""
    try:
        return orjson.dumps(data, option=orjson.OPT_SORT_KEYS if sorted_keys else None)
    except TypeError:
        return json.dumps(data, sort_keys=sorted_keys, separators=(",", ":"), allow_nan=False).encode()


def printable(text: str) -> bytes:
    """Return the text of an error in UTF-8, with escapes for what no message may carry."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace")


QUESTIONS: dict[str, Callable[..., object]] = {
    "variable": lambda scope, name: scope.variable(name),
    "variables": lambda scope: scope.variables(),
    "item": lambda scope: scope.item(),
    "result": lambda scope: scope.result(),
    "status": lambda scope, name, route: scope.status(name, route),
    "run": lambda scope, name, route: scope.run(name, route),
    "stored": lambda scope, environment, key: scope.stored(environment, key),
    "task": lambda scope, name: scope.task(name),
    "tasks": lambda scope, *arguments: scope.tasks(*arguments),
    "execution": lambda scope: scope.execution(),
    "executions": lambda scope, **criteria: scope.executions(**criteria),
    "environment": lambda scope: scope.environment(),
    "global_variable": lambda scope, name: scope.global_variable(name),
}


class ScopeAnswers:
    """A scope as answers, for use in the thread of the scope."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def answer(self, question: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> object:
        """Return the answer of the scope. Raises its exceptions."""
        return QUESTIONS[question](self._scope, *arguments, **named)
