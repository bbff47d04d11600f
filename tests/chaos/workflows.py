"""What is run: the same work in both languages, each with the other one's as its sub-workflow.

Every task gives a value of its own, and the output is their sum: what is lost, or counted twice, shows in it.
"""

from __future__ import annotations

MISTRAL = "chaos_mistral"
ORQUESTA = "demo.chaos_orquesta"

DOCUMENTS = {
    "": """
version: '2.0'

chaos_mistral:
  input: [n, deep]
  output: {total: <% $.a + $.b + $.c + $.d + $.e + $.f + $.g %>}
  tasks:
    begin:
      action: chaos.safe value=<% $.n %>
      publish: {a: <% task().result %>}
      checkpoint: begun
      on-success: [left, right, each, ask, later, below]
    left:
      action: chaos.unsafe value=1000 delay=0.05
      retry: {count: 100, delay: 0}
      publish: {b: <% task().result %>}
      revert: chaos.undo value=1000
      on-success: meet
    right:
      action: chaos.flaky value=2000 fails=2
      retry: {count: 100, delay: 1}
      publish: {c: <% task().result %>}
      on-success: meet
    each:
      with-items: i in <% [1, 2, 4, 8, 16, 32] %>
      action: chaos.safe value=<% $.i %> delay=0.02
      concurrency: 4
      publish: {d: <% task().result.sum() %>}
      revert: chaos.undo value=1
      on-success: meet
    ask:
      action: chaos.ask value=4000 alias=<% $.n mod 2 = 0 %>
      retry: {count: 100, delay: 0}
      publish: {e: <% task().result %>}
      on-success: meet
    later:
      action: chaos.safe value=8000
      wait-before: 1
      timeout: 600
      publish: {f: <% task().result %>}
      on-success: meet
    below:
      workflow: <% switch($.deep => 'demo.chaos_orquesta', not $.deep => 'chaos_small') %>
      input: {n: <% $.n %>, deep: false}
      publish: {g: <% task().result.total %>}
      on-success: meet
    meet:
      join: all
      action: chaos.safe
      checkpoint: met

chaos_small:
  input: [n, deep]
  output: {total: <% $.x + $.y %>}
  tasks:
    first:
      action: chaos.unsafe value=<% $.n %> delay=0.02
      retry: {count: 100, delay: 0}
      publish: {x: <% task().result %>}
      on-success: second
    second:
      with-items: i in <% [1, 2, 3] %>
      action: chaos.unsafe value=<% $.i %>
      retry: {count: 100, delay: 0}
      publish: {y: <% task().result.sum() %>}
""",
    ORQUESTA: """
version: 1.0
input: [n, deep]
output:
  - total: <% ctx(a) + ctx(b) + ctx(c) + ctx(d) + ctx(e) + ctx(f) + ctx(g) %>
tasks:
  begin:
    action: chaos.safe
    input: {value: <% ctx(n) %>}
    checkpoint: begun
    next:
      - when: <% succeeded() %>
        publish: [{a: <% result() %>}]
        do: [left, right, each, ask, later, below]
  left:
    action: chaos.unsafe
    input: {value: 1000, delay: 0.05}
    retry: {count: 100, delay: 0}
    revert: {action: chaos.undo, input: {value: 1000}}
    next: [{when: <% succeeded() %>, publish: [{b: <% result() %>}], do: meet}]
  right:
    action: chaos.flaky
    input: {value: 2000, fails: 2}
    retry: {count: 100, delay: 1}
    next: [{when: <% succeeded() %>, publish: [{c: <% result() %>}], do: meet}]
  each:
    with: {items: "i in <% list(1, 2, 4, 8, 16, 32) %>", concurrency: 4}
    action: chaos.safe
    input: {value: <% item(i) %>, delay: 0.02}
    revert: {action: chaos.undo, input: {value: 1}}
    next: [{when: <% succeeded() %>, publish: [{d: <% result().sum() %>}], do: meet}]
  ask:
    action: chaos.ask
    input: {value: 4000, alias: <% ctx(n) mod 2 = 0 %>}
    retry: {count: 100, delay: 0}
    next: [{when: <% succeeded() %>, publish: [{e: <% result() %>}], do: meet}]
  later:
    action: chaos.safe
    input: {value: 8000}
    delay: 1
    next: [{when: <% succeeded() %>, publish: [{f: <% result() %>}], do: meet}]
  below:
    action: <% switch(ctx(deep) => 'chaos_mistral', not ctx(deep) => 'chaos_small') %>
    input: {n: <% ctx(n) %>, deep: false}
    next: [{when: <% succeeded() %>, publish: [{g: <% result().output.total %>}], do: meet}]
  meet:
    join: all
    action: chaos.safe
    checkpoint: met
""",
}
"""Texts by the name that they are stored under; a Mistral text has its names in itself."""


def expected_total(n: int, *, deep: bool) -> int:
    """Return the output of a workflow with this input."""
    below = expected_total(n, deep=False) if deep else n + 6
    return n + 1000 + 2000 + 63 + 4000 + 8000 + below
