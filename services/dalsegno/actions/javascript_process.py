"""`python -m dalsegno.actions.javascript_process`: run one script from standard input, and write its result.

    {"script": "return $.a + 1", "context": {"a": 1}, "time_limit_s": 10, "memory_bytes": 134217728}
    {"result": "2"} or {"error": "why"}

The result is JSON text from the engine, or null if the script returns a value that JSON does not have.
"""

from __future__ import annotations

import json
import os
import resource
import sys

from dalsegno import core_files

PROCESS_BYTES = 1024 * 1024 * 1024
"""The memory limit of the process: array buffers are outside of the engine's heap."""

_WRAPPED = 'JSON.stringify((new Function("$", {script}))({context}))'


def evaluate(script: str, context: object, time_limit_s: float, memory_bytes: int) -> dict[str, object]:
    """Return the answer to one question."""
    try:
        from py_mini_racer import JSEvalException, JSOOMException, JSTimeoutException, MiniRacer
    except ImportError:
        return {"error": "this executor cannot run JavaScript: install dalsegno[javascript] where it runs"}
    engine = MiniRacer()
    code = _WRAPPED.format(script=json.dumps(script), context=json.dumps(context))
    try:
        result = engine.eval(code, timeout_sec=time_limit_s, max_memory=memory_bytes)
    except JSTimeoutException:
        return {"error": f"stopped after {time_limit_s:g} s"}
    except JSOOMException:
        return {"error": f"stopped because it used more than {memory_bytes // 1024 // 1024} MiB"}
    except JSEvalException as error:
        return {"error": _first_words(str(error))}
    return {"result": result if isinstance(result, str) else None}


def _first_words(text: str) -> str:
    """Return the error, without the engine's excerpt of the source and its trace."""
    line = text.partition("\n")[0]
    place, colon, words = line.partition(": ")
    return words if colon and place.startswith(("<anonymous>", "undefined")) else line


def main() -> None:
    """Answer one question."""
    resource.setrlimit(resource.RLIMIT_DATA, (PROCESS_BYTES, PROCESS_BYTES))
    core_files.write_none()
    question = json.load(sys.stdin)
    json.dump(evaluate(**question), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # the engine's threads may block a normal exit


if __name__ == "__main__":
    main()
