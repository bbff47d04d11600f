"""How long an inspection takes."""

from __future__ import annotations

import time

import pytest

from dalsegno.definitions.document import read

TASK = """
  t{n}:
    action: core.echo message="{{{{ ctx('a') }}}} and {{{{ ctx().b }}}} {n}"
    next:
      - when: "{{{{ succeeded() and ctx('c') == {n} }}}}"
        publish:
          - c: "{{{{ result().stdout | upper }}}} {n}"
          - d{n}: "{{{{ ctx('c') }}}}"
        do: t{next}
"""
CPU_MAX_S = 15.0
"""Of the processor, and three times what it takes on the slow machine that it was written on; it was 30."""


@pytest.mark.long("definitions of megabytes")
def test_large_definitions_take_time_in_proportion() -> None:
    """1.4 MB with 25,000 expressions of Jinja, all different: more than any cache keeps."""
    tasks = "".join(TASK.format(n=n, next=n + 1) for n in range(5_000))
    text = f"version: 1.0\ninput: [a, b]\nvars: [{{c: 1}}]\ntasks:{tasks}  t5000: {{action: core.noop}}\n"
    began_s = time.process_time()
    document = read(text, name="large")
    assert time.process_time() - began_s < CPU_MAX_S
    assert document.problems == ()
