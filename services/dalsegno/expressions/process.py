"""The process apart in which expressions without a budget are evaluated: `python -m dalsegno.expressions.process MIB`.

It lives as long as its input is open, and cannot outlive its parent by much: each evaluation has seconds of processor
time, after which the system ends the process.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from dalsegno.expressions.answers import UnfitSchema, find_problems
from dalsegno.expressions.jinja import compile_jinja_expression, compile_jinja_text
from dalsegno.expressions.language import LANGUAGES, Language
from dalsegno.expressions.yaql.evaluate import compile_yaql
from dalsegno.expressions.yaql.library import standard_context
from dalsegno.workflow.scope import EvaluationError, Scope

PROCESSOR_S = 5
"""Seconds of processor time for one evaluation: only reached when the parent is gone, which has a shorter limit."""


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def ask(question: str, *arguments: object, **named: object) -> Any:
    """What the parent's scope says. Raises KeyError and EvaluationError as the scope does."""
    send({"ask": question, "arguments": arguments, "named": named})
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    message = json.loads(line)
    if "missing" in message:
        raise KeyError(*arguments)
    if "error" in message:
        raise EvaluationError(message["error"])
    return message["value"]


@dataclass
class RemoteScope:
    """The parent's scope, asked over the pipe. What has been asked once is kept."""

    at_s: float
    seed: str
    known: dict[str, object] = field(default_factory=dict)

    def variable(self, name: str) -> object:
        if name not in self.known:
            self.known[name] = ask("variable", name)
        return self.known[name]

    def variables(self) -> dict[str, object]:
        found: dict[str, object] = ask("variables")
        return found

    def task(self, name: str | None) -> dict[str, object] | None:
        found: dict[str, object] | None = ask("task", name)
        return found

    def item(self) -> object:
        return ask("item")

    def result(self) -> object:
        return ask("result")

    def status(self, name: str | None, route: int | None) -> str | None:
        found: str | None = ask("status", name, route)
        return found

    def run(self, name: str | None, route: int | None) -> dict[str, object] | None:
        found: dict[str, object] | None = ask("run", name, route)
        return found

    def stored(self, environment: str, key: str) -> object:
        return ask("stored", environment, key)

    def tasks(
        self, execution_id: str | None, recursive: bool, state: str | None, flat: bool
    ) -> list[dict[str, object]]:
        found: list[dict[str, object]] = ask("tasks", execution_id, recursive, state, flat)
        return found

    def execution(self) -> dict[str, object]:
        found: dict[str, object] = ask("execution")
        return found

    def executions(self, **criteria: object) -> list[dict[str, object]]:
        found: list[dict[str, object]] = ask("executions", **criteria)
        return found

    def environment(self) -> dict[str, object]:
        found: dict[str, object] = ask("environment")
        return found

    def global_variable(self, name: str) -> object:
        return ask("global_variable", name)


class Evaluable(Protocol):
    """An expression of any kind."""

    def evaluate_here(self, scope: Scope, place: str) -> object: ...


COMPILERS: dict[str, Callable[[str, Language], Evaluable]] = {
    "yaql": compile_yaql,
    "jinja": compile_jinja_expression,
    "jinja text": compile_jinja_text,
}


def evaluate(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request."""
    if "schema" in request:
        return check(request["schema"], request["answer"])
    scope = RemoteScope(request["at_s"], request["seed"])
    try:
        expression = COMPILERS[request["notation"]](request["text"], LANGUAGES[request["language"]])
        return {"value": expression.evaluate_here(scope, request["place"])}
    except EvaluationError as error:
        return {"error": str(error)}
    except MemoryError:
        sys.exit(1)  # The parent says so, and starts another one.


def check(schema: object, given: object) -> dict[str, Any]:
    """What is wrong with an answer to an inquiry."""
    try:
        return {"value": find_problems(schema, given)}
    except UnfitSchema as error:
        return {"error": f"the schema of the answer is unfit: {error}"}
    except MemoryError:
        sys.exit(1)


def limit_processor_time() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + PROCESSOR_S
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def main() -> None:
    """Answer requests until there are no more."""
    limit = int(sys.argv[1]) * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    compile_yaql("1")
    for language in LANGUAGES.values():
        standard_context(language)
    send({"ready": True})
    for line in sys.stdin:
        limit_processor_time()
        send(evaluate(json.loads(line)))


if __name__ == "__main__":
    main()
