"""An engine that dies, as by a fault of its own code, whenever it steps a chosen kind of event of a chosen workflow,
or evaluates an expression with the word `fatal` in it.

The environment says which: DYING_WORKFLOW=victim DYING_EVENT=TaskDone. The rest is as for any engine.
"""

from __future__ import annotations

import os
import resource
import sys

from dalsegno.engine.__main__ import main
from dalsegno.expressions.budget import Budget
from dalsegno.expressions.evaluation import Source
from dalsegno.workflow import machine
from dalsegno.workflow.events import Event
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.scope import Scope

WORKFLOW, EVENT = os.environ["DYING_WORKFLOW"], os.environ["DYING_EVENT"]
_step = machine.step


def _step_or_die(workflow: object, execution: Execution | None, event: Event, *rest: object) -> machine.StepResult:
    if execution is not None and execution.created.workflow == WORKFLOW and type(event).__name__ == EVENT:
        os.abort()
    return _step(workflow, execution, event, *rest)  # type: ignore[arg-type]


def _die_of_words(kind: type[Source]) -> None:
    """Die at the word; evaluation processes do not run this program."""
    value = kind.value

    def value_or_die(source: Source, scope: Scope, budget: Budget) -> object:
        if "fatal" in source.text:
            os.abort()
        return value(source, scope, budget)

    kind.value = value_or_die  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a death writes no file
    machine.step = _step_or_die  # type: ignore[assignment]
    for each in Source.__subclasses__():
        _die_of_words(each)
    sys.exit(main())
