"""Definitions as long as one likes."""

from __future__ import annotations


def mistral(characters: int, name: str = "long") -> str:
    """A chain of tasks with expressions in YAQL, at least that long."""
    head = f"version: '2.0'\n{name}:\n  input: [a]\n  tasks:\n"
    return _chain(characters, head, _MISTRAL, "    task{}:\n      action: std.noop\n")


def orquesta(characters: int) -> str:
    """A chain of tasks with expressions in Jinja, at least that long."""
    return _chain(characters, "version: 1.0\ninput: [a]\ntasks:\n", _ORQUESTA, "  task{}:\n    action: core.noop\n")


_MISTRAL = """\
    task{0}:
      action: std.echo output=<% $.a + {0} %>
      publish:
        b{0}: <% task().result.select($.x + {0}).where($ > 3).len() %>
      on-success:
        - task{1}: <% $.b{0} > {0} and $.a.len() < 3 %>
"""
_ORQUESTA = """\
  task{0}:
    action: core.echo message="{{{{ ctx().a | upper }}}} and {{{{ ctx('a') }}}} {0}"
    next:
      - when: "{{{{ succeeded() and result().x > {0} }}}}"
        publish:
          - b{0}: "{{{{ result().y | length + {0} }}}}"
        do: task{1}
"""


def _chain(characters: int, head: str, task: str, last: str) -> str:
    parts = [head]
    count = characters // len(task) + 1
    parts += (task.format(number, number + 1) for number in range(count))
    return "".join((*parts, last.format(count)))
