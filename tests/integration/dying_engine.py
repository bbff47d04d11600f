"""An engine that dies, as by a fault of its own code, whenever it steps a chosen kind of event of a chosen workflow.

DYING_WORKFLOW=victim DYING_EVENT=TaskDone python dying_engine.py --listen ...
"""

from __future__ import annotations

import os
import sys

from dalsegno.engine.__main__ import main
from dalsegno.workflow import machine
from dalsegno.workflow.events import Event
from dalsegno.workflow.execution import Execution

WORKFLOW, EVENT = os.environ["DYING_WORKFLOW"], os.environ["DYING_EVENT"]
_step = machine.step


def _step_or_die(workflow: object, execution: Execution | None, event: Event, *rest: object) -> machine.Outcome:
    if execution is not None and execution.created.workflow == WORKFLOW and type(event).__name__ == EVENT:
        os.abort()
    return _step(workflow, execution, event, *rest)  # type: ignore[arg-type]


if __name__ == "__main__":
    machine.step = _step_or_die  # type: ignore[assignment]
    sys.exit(main())
