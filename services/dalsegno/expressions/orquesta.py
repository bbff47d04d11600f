"""The functions of Orquesta's expressions, and of StackStorm's beside them."""

from __future__ import annotations

from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.registry import Builtin, builtin
from dalsegno.workflow.scope import EvaluationError

FUNCTIONS: dict[str, Builtin] = {}
"""By name."""


@builtin("ctx", least=0, most=1, function=True, table=FUNCTIONS)
def ctx(frame: Frame, name: object = None) -> object:
    """The context, or one variable of it. YAQL and Jinja have it themselves, without the whole context at hand."""
    raise EvaluationError("ctx() has no context here")
