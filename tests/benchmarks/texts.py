"""The definitions that the benchmarks run, in Mistral's language unless they say otherwise."""

from __future__ import annotations


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


def orquesta_chain_text(tasks: int) -> str:
    """The same in Orquesta's language, with a condition on each way."""
    lines = ["version: 1.0", "tasks:"]
    for number in range(tasks):
        following = f"task_{number + 1}" if number + 1 < tasks else "noop"
        lines += [f"  task_{number}:", f"    action: core.echo message='value {number}'", "    next:"]
        lines += ["      - when: <% succeeded() %>", "        publish:"]
        lines += [f"          - variable_{number}: <% result().stdout %>", f"        do: {following}"]
    return "\n".join(lines) + "\n"


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
