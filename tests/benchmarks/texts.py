"""The definitions that the benchmarks run, in both languages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

WAIT_S = 3_600
"""So long tasks wait that are not to continue while something is measured."""


def chain_text(name: str, tasks: int) -> str:
    """A workflow of so many no-op tasks, one after the other."""
    lines = ["version: '2.0'", f"{name}:", "  tasks:"]
    for number in range(tasks):
        lines += [f"    task_{number}:", "      action: std.noop"]
        if number + 1 < tasks:
            lines.append(f"      on-success: task_{number + 1}")
    return "\n".join(lines) + "\n"


def publishing_chain_text(name: str, tasks: int) -> str:
    """A chain in which each task publishes one variable of its own."""
    lines = ["version: '2.0'", f"{name}:", "  tasks:"]
    for number in range(tasks):
        lines += [f"    task_{number}:", f"      action: std.echo output='value {number}'"]
        lines += ["      publish:", f"        variable_{number}: <% task().result %>"]
        if number + 1 < tasks:
            lines.append(f"      on-success: task_{number + 1}")
    return "\n".join(lines) + "\n"


def waiting_chain_text(name: str, tasks: int) -> str:
    """A chain of no-op tasks, and one after them that waits."""
    last = ["      on-success: waiting", "    waiting:", "      action: std.noop", f"      wait-before: {WAIT_S}"]
    return chain_text(name, tasks) + "\n".join(last) + "\n"


def orquesta_chain_text(name: str, tasks: int, last: str = "noop") -> str:
    """The same in Orquesta's language: a workflow of so many no-op tasks, one after the other."""
    lines = ["version: 1.0", f"description: {name}", "tasks:"]
    for number in range(tasks):
        following = f"task_{number + 1}" if number + 1 < tasks else last
        lines += [f"  task_{number}:", "    action: core.noop", "    next:"]
        lines += ["      - when: <% succeeded() %>", f"        do: {following}"]
    return "\n".join(lines) + "\n"


def orquesta_publishing_chain_text(name: str, tasks: int) -> str:
    """A chain in which each task publishes one variable of its own, with a condition on each way."""
    lines = ["version: 1.0", f"description: {name}", "tasks:"]
    for number in range(tasks):
        following = f"task_{number + 1}" if number + 1 < tasks else "noop"
        lines += [f"  task_{number}:", f"    action: core.echo message='value {number}'", "    next:"]
        lines += ["      - when: <% succeeded() %>", "        publish:"]
        lines += [f"          - variable_{number}: <% result().stdout %>", f"        do: {following}"]
    return "\n".join(lines) + "\n"


def orquesta_waiting_chain_text(name: str, tasks: int) -> str:
    """A chain of no-op tasks, and one after them that waits."""
    last = ["  waiting:", "    action: core.noop", f"    delay: {WAIT_S}"]
    return orquesta_chain_text(name, tasks, "waiting") + "\n".join(last) + "\n"


def orquesta_layers_text(layers: int, width: int) -> str:
    """Layers of tasks in Orquesta's language, each leading to all of the next one, none of them a join."""
    lines = ["version: 1.0", "tasks:"]
    for layer in range(layers):
        following = ", ".join(f"task_{layer + 1}_{number}" for number in range(width))
        do = f"[{following}]" if layer + 1 < layers else "noop"
        for number in range(width):
            lines += [f"  task_{layer}_{number}:", "    action: core.noop", "    next:"]
            lines += ["      - publish:", f"          - variable_{layer}_{number}: {number}", f"        do: {do}"]
    return "\n".join(lines) + "\n"


def orquesta_converging_text(tasks: int) -> str:
    """Tasks in Orquesta's language that begin at once and all lead to one, which is no join and so runs for each."""
    lines = ["version: 1.0", "tasks:"]
    for number in range(tasks):
        lines += [f"  task_{number}:", "    action: core.noop", "    next:", "      - do: last"]
    return "\n".join([*lines, "  last:", "    action: core.noop"]) + "\n"


FAN_OUT = """\
version: '2.0'
fan_out:
  input: [count]
  tasks:
    each:
      with-items: number in <% range($.count) %>
      action: std.echo output=<% $.number %>
      on-success: together
    together:
      join: all
      action: std.noop
"""
"""One workflow that does a no-op for each item of a list and joins."""

REVERSIBLE_FAN_OUT = FAN_OUT.replace("fan_out:", "reversible:").replace(
    "      on-success: together\n",
    "      revert: {action: std.noop, concurrency: 100}\n      on-success: together\n",
)
"""The same, of which each item can be undone."""

ONE_TASK = """\
version: '2.0'
one_task:
  output:
    said: <% task(only).result %>
  tasks:
    only:
      action: std.echo output='hello'
"""
"""The smallest workflow that has a result."""

ORQUESTA_FAN_OUT = """\
version: 1.0
input: [count]
tasks:
  each:
    with: number in <% range(ctx(count)) %>
    action: core.echo message=<% item(number) %>
    next:
      - when: <% succeeded() %>
        do: together
  together:
    join: all
    action: core.noop
"""

ORQUESTA_REVERSIBLE_FAN_OUT = ORQUESTA_FAN_OUT.replace(
    "    next:\n      - when", "    revert: {action: core.noop, concurrency: 100}\n    next:\n      - when"
)

ORQUESTA_ONE_TASK = """\
version: 1.0
output:
  - said: <% ctx(said) %>
tasks:
  only:
    action: core.echo message='hello'
    next:
      - publish:
          - said: <% result().stdout %>
"""


ASKING = """\
version: '2.0'
asking:
  tasks:
    ask: {action: std.async_noop}
"""
ORQUESTA_ASKING = """\
version: 1.0
tasks:
  ask: {action: std.async_noop}
"""

ENDLESS = """\
version: '2.0'
endless_round:
  input: [n]
  output:
    n: <% $.n + 1 %>
  tasks:
    only:
      action: std.noop
endless:
  input: [rounds]
  output:
    n: <% $.n %>
  tasks:
    fork:
      action: std.noop
      publish:
        n: 0
      on-success: [left, right, round]
    left:
      action: std.noop
      publish:
        left: <% $.n %>
      on-success: together
    right:
      action: std.noop
      publish:
        right: <% $.n %>
      on-success: together
    round:
      workflow: endless_round n=<% $.n %>
      checkpoint:
        name: round
        when: after
        keep: {count: 5}
        data:
          n: <% task().result.n %>
      publish:
        n: <% task().result.n %>
      on-success:
        - round: <% $.n < $.rounds %>
        - together: <% $.n >= $.rounds %>
    together:
      join: all
      action: std.noop
"""
"""A workflow that goes round as often as it is told, with a sub-workflow in each round, and keeps five rounds. The loop
is one of three branches, which join when it has ended."""

ORQUESTA_ENDLESS_ROUND = """\
version: 1.0
input: [n]
output:
  - n: <% ctx(n) + 1 %>
tasks:
  only:
    action: core.noop
"""

ORQUESTA_ENDLESS = """\
version: 1.0
input: [rounds]
vars:
  - n: 0
output:
  - n: <% ctx(n) %>
tasks:
  fork:
    action: core.noop
    next:
      - do: [left, right, round]
  left:
    action: core.noop
    next:
      - publish:
          - left: <% ctx(n) %>
        do: together
  right:
    action: core.noop
    next:
      - publish:
          - right: <% ctx(n) %>
        do: together
  round:
    action: endless_round n=<% ctx(n) %>
    checkpoint:
      name: round
      when: after
      keep: {count: 5}
      data:
        n: <% result().output.n %>
    next:
      - when: <% succeeded() and result().output.n < ctx(rounds) %>
        publish:
          - n: <% result().output.n %>
        do: round
      - when: <% succeeded() and result().output.n >= ctx(rounds) %>
        publish:
          - n: <% result().output.n %>
        do: together
  together:
    join: all
    action: core.noop
"""

ORQUESTA_ENDLESS_JOINS = """\
version: 1.0
input: [rounds]
vars:
  - n: 0
output:
  - n: <% ctx(n) %>
tasks:
  begin:
    action: core.noop
    next:
      - do: fork
  fork:
    action: core.noop
    next:
      - do: [left, right, round]
  left:
    action: core.noop
    next:
      - publish:
          - left: <% ctx(n) %>
        do: together
  right:
    action: core.noop
    next:
      - publish:
          - right: <% ctx(n) %>
        do: together
  round:
    action: endless_round n=<% ctx(n) %>
    checkpoint:
      name: round
      when: after
      keep: {count: 5}
      data:
        n: <% result().output.n %>
    next:
      - when: <% succeeded() %>
        publish:
          - n: <% result().output.n %>
        do: together
  together:
    join: all
    action: core.noop
    next:
      - when: <% ctx(n) < ctx(rounds) %>
        do: fork
"""
"""The same, with the three branches in each round: the checkpoint is reached while the join waits."""


class Chain(Protocol):
    """A definition of a workflow of this name with so many tasks."""

    def __call__(self, name: str, tasks: int) -> str: ...


@dataclass(frozen=True)
class Language:
    """What the workloads run, in one language. What differs is the language; what is done is the same."""

    name: str
    suffix: str
    """Follows the names of the workloads."""
    chain: Chain
    publishing_chain: Chain
    waiting_chain: Chain
    fan_out: str
    reversible_fan_out: str
    one_task: str
    asking: str
    """The workflow `asking`, which waits for a third party."""
    endless: tuple[tuple[str, str], ...]
    """The documents of the workflow `endless`, each with the name that it is created by."""
    echoes: str
    """The parameter of the action that the items of the fan-out run."""

    def document_name(self, name: str) -> str:
        """What must be said beside the text for the workflow to have this name: nothing where the text says it."""
        return name if self.name == "orquesta" else ""


LANGUAGES = {
    "mistral": Language(
        "mistral",
        "",
        chain_text,
        publishing_chain_text,
        waiting_chain_text,
        FAN_OUT,
        REVERSIBLE_FAN_OUT,
        ONE_TASK,
        ASKING,
        (("", ENDLESS),),
        "output",
    ),
    "orquesta": Language(
        "orquesta",
        ", Orquesta",
        orquesta_chain_text,
        orquesta_publishing_chain_text,
        orquesta_waiting_chain_text,
        ORQUESTA_FAN_OUT,
        ORQUESTA_REVERSIBLE_FAN_OUT,
        ORQUESTA_ONE_TASK,
        ORQUESTA_ASKING,
        (("endless_round", ORQUESTA_ENDLESS_ROUND), ("endless", ORQUESTA_ENDLESS)),
        "message",
    ),
}


def signed_chain(language: Language, name: str, tasks: int, span: int) -> str:
    """A chain with the checkpoint `sign` so many tasks before its end, before its first task when it has no more, and
    the checkpoint `end` behind its last task."""
    text = language.chain(name, tasks)
    indent = "      " if language.name == "mistral" else "    "
    for place, checkpoint in ((max(0, tasks - span), "{name: sign, when: before}"), (tasks - 1, "end")):
        head = f"task_{place}:\n"
        text = text.replace(head, f"{head}{indent}checkpoint: {checkpoint}\n", 1)
    return text
