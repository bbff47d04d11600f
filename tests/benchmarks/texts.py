"""The definitions that the benchmarks run, in Mistral's language."""

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
