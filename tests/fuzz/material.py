"""What inputs are made of: names, ids, values, filters and documents, such as the stand has them, and worse ones."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from random import Random

from tests.fuzz.documents import DOCUMENTS, draw_document

STARTED = 12
"""The number of executions that the stand has at a time, each with an id that follows from the seed and the round."""

WORKFLOWS = ("fuzz_chain", "fuzz_items", "fuzz_asks", "fuzz_calls", "fuzz_points", "fuzz_orquesta", "fuzz_secret")
NAMESPACES = ("", "", "", "team-a", "team-b", "no such")
ACTIONS = ("std.noop", "std.echo", "std.fail", "std.async_noop", "fuzz.act", "fuzz.ask", "core.noop", "no.such")
TASKS = ("first", "second", "many", "ask", "call", "left", "meet", "t1", "no such task")
CHECKPOINTS = ("begun", "done", "installed", "no such point")
ENVIRONMENTS = ("stage", "stage", "other")
ALIASES = ("order-1", "order-2", "x" * 255)
ERRORS = ("it broke", "", "Traceback is a word", "\N{SNOWMAN}" * 40)
ODD_TEXTS = (
    *("", " ", "a", "A" * 255, "A" * 256, "x" * 5_000, "\N{GRINNING FACE}", "a\nb\tc", "../../etc/passwd", "%00", "*"),
    *("'; DROP TABLE executions; --", "{{ _.x }}", "<% $ %>", "${jndi:ldap://example.com/a}", "-1", "0", "null"),
    *("true", "1e999", "NaN", "[", "{}", "é" * 100, "\u202e", "\ufeff", "\u2028", "a" * 70_000, "a=b", 'k="'),
)
NUMBERS = (0, 1, 2, 3, 5, 10, 100, 1_000, 9_999, 2**31 - 1, -1, -(2**31) + 1)
BAD_NUMBERS = (2**31, 2**32, 2**63 - 1, -(2**63), -(2**31))

_FILTER_FIELDS = (
    *("state", "workflow", "name", "namespace", "label.team", "id", "root", "parent", "created", "ended", "item"),
    *("accepted", "checkpoint", "paused_at", "forks", "forked_from", "language", "kind", "action", "task", "labels"),
)
_FILTER_VALUES = (
    *("running", "EXECUTION_STATE_ERROR", "paused", "fuzz_*", "*a1b2", "team-a", '"red, blue"', "-1h30m", "true", "3"),
    *("2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "", '"', "a,b,c", "*", "-9999999999w", "mistral", "\\u0000"),
)


def draw_json(random: Random, depth: int = 3) -> object:
    """Return a value of JSON, of at most so many levels."""
    kind = random.randrange(10 if depth else 7)
    match kind:
        case 0:
            return random.choice((None, True, False))
        case 1 | 2:
            return random.choice((*NUMBERS, *BAD_NUMBERS, 10**40, 0.1, -2.5e300, 5e-324))
        case 3 | 4 | 5 | 6:
            return random.choice((*ODD_TEXTS[:30], *TASKS, "<% $.word %>", "<% 1 / 0 %>", "{{ _.word }}"))
        case 7:
            return [draw_json(random, depth - 1) for _ in range(random.randrange(5))]
        case _:
            names = ("word", "list", "n", "a b", "", "__class__", "x" * 300, "t1")
            return {random.choice(names): draw_json(random, depth - 1) for _ in range(random.randrange(5))}


def _json_text(random: Random) -> str:
    if random.randrange(12) == 0:
        return random.choice(("{", "[1,", "NaN", '{"a": 1e999}', '"\\ud800"', '"\\u0000"', "[" * 3_000, "01", "'a'"))
    value = draw_json(random) if random.randrange(3) == 0 else {"word": draw_json(random, 2), "list": [1, 2, 3]}
    return json.dumps(value)


def draw_filter(random: Random) -> str:
    """Return a filter, which need not be a right one."""
    terms = []
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        operator = random.choice(("=", "=", "=", "!=", "<", ">=", ">", "<=", "~", ""))
        terms.append(f"{random.choice(_FILTER_FIELDS)}{operator}{random.choice(_FILTER_VALUES)}")
    return random.choice((" ", " ", " ", "  ", ",")).join(terms)


class Material:
    """What the fields of messages are filled with: by their names, and else by their types."""

    def __init__(self, random: Random, round_number: int, tokens: Sequence[str] = ()) -> None:
        """`round_number`: whose executions are meant. `tokens`: page tokens, resume tokens and task tokens that servers
        have given."""
        self.random = random
        self.odd_in = random.choice((8, 40, 300))
        """One text in so many is an odd one, whatever its field is."""
        self.filled = random.choice((0.1, 0.3, 0.7))
        """The share of the fields that are set, beside those that say what a message is about."""
        self._ids = execution_ids(round_number)
        self._tokens = tokens
        self._drawn: Mapping[str, Callable[[], str]] = self._by_name()

    def text(self, name: str) -> str:
        """Return a text for a field of this name."""
        draw = self._drawn.get(name)
        if draw is None or self.random.randrange(self.odd_in) == 0:
            return self.random.choice(ODD_TEXTS)
        return draw()

    def number(self) -> int:
        """Return a number; one that no server takes is rare."""
        if self.random.randrange(3 * self.odd_in) == 0:
            return self.random.choice(BAD_NUMBERS)
        return self.random.choice(NUMBERS) if self.random.randrange(2) else self.random.randrange(4)

    def execution_id(self) -> str:
        """Return an id, mostly of an execution that exists."""
        if self.random.randrange(15) == 0:
            return str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        return self.random.choice(self._ids)

    def action_id(self) -> str:
        """Return the id of an action execution."""
        numbers = (self.random.randrange(4), self.random.choice((0, 0, 0, 1, 2, 99)), self.random.choice((1, 1, 2)))
        return f"{self.execution_id()}.{'.'.join(map(str, numbers))}"

    def _given(self) -> str:
        if self._tokens and self.random.randrange(4):
            token = self.random.choice(self._tokens)
            if self.random.randrange(3):
                return token
            place = self.random.randrange(len(token))
            return token[:place] + self.random.choice("AZ09_.=") + token[place + 1 :]
        return self.random.choice(("", "AAAA", "e30", "MTIz", "x" * 400))

    def _seldom(self, draw: Callable[[], str]) -> Callable[[], str]:
        """Return what is mostly empty: the field excludes others that say what a request is about."""
        return lambda: draw() if self.random.randrange(4) == 0 else ""

    def _by_name(self) -> Mapping[str, Callable[[], str]]:
        pick = self.random.choice
        draw: dict[str, Callable[[], str]] = {
            "execution_id": self.execution_id,
            "new_execution_id": self.execution_id,
            "task_execution_id": lambda: f"{self.execution_id()}.{self.random.randrange(5)}",
            "action_execution_id": self.action_id,
            "workflow": lambda: pick(WORKFLOWS),
            "name": lambda: pick((*WORKFLOWS, *ENVIRONMENTS, *ACTIONS, *CHECKPOINTS)),
            "namespace": lambda: pick(NAMESPACES),
            "action": lambda: pick(ACTIONS),
            "task": lambda: pick(TASKS),
            "environment": lambda: pick(ENVIRONMENTS),
            "checkpoint": lambda: pick(CHECKPOINTS),
            "secrets": lambda: pick(("word", "list", "password", "a.b", "")),
            "stop_at": lambda: pick(CHECKPOINTS),
            "alias": lambda: pick(ALIASES),
            "text": lambda: draw_document(self.random),
            "language": lambda: "",
            "filter": lambda: draw_filter(self.random),
            "request_id": lambda: f"r{self.random.randrange(50)}",
            "comment": lambda: pick(("", "a test", "x" * 4_096)),
            "description": lambda: pick(("", "what it does", "\N{SNOWMAN}" * 500)),
            "message": lambda: pick(("", "it was time")),
            "answer_schema": lambda: pick(("", "", "schema")),
            "answer_key": lambda: pick(("", "answer")),
            "reason": lambda: pick(("", "bye", "x" * 5_000)),
            "default": lambda: _json_text(self.random),
            "error": lambda: pick(ERRORS),
            "field": lambda: pick(("output", "input", "context", "result", "published", "text", "variables", "odd")),
            "executor_id": lambda: pick(("fuzz-1", "fuzz-2", "fuzz-3")),
            "session_id": lambda: pick(self._ids),
            "engine_id": lambda: pick(("", "engine-1", "no-such")),
            "target": lambda: pick(("", "zone in (north, east)", "gpu=*, !spot", "zone in (", "\N{SNOWMAN}=1")),
            "pattern": lambda: pick(("*", "team-*", "std.*", "a*b", "")),
            "token_id": lambda: pick(("0123456789abcdef", "no")),
            "file": lambda: pick(("a.yaml", "b.yaml", "")),
            "body": lambda: _json_text(self.random),
            "later": self._given,
            "unset": lambda: pick(("word", "list", "")),
        }
        draw |= dict.fromkeys(("page_token", "resume_token", "call_id"), self._given)
        rarely = {"task_token": self._given, "alias": draw["alias"], "definition_id": self.execution_id}
        draw |= {name: self._seldom(found) for name, found in rarely.items()}
        json_fields = ("input", "params", "variables", "result", "output", "set", "environment_overlay", "details")
        return draw | dict.fromkeys(json_fields, lambda: _json_text(self.random))


def execution_ids(round_number: int) -> list[str]:
    """Return the ids of the executions of a round."""
    ids = Random(f"executions {round_number}")
    return [str(uuid.UUID(int=ids.getrandbits(128), version=4)) for _ in range(STARTED)]


def documents() -> tuple[str, ...]:
    """Return the documents that the stand has."""
    return DOCUMENTS
