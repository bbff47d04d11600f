"""`python -m dalsegno.actions.javascript_process`: runs one script, read from standard input, and writes what it gives.

    {"script": "return $.a + 1", "context": {"a": 1}, "time_limit_s": 10, "memory_bytes": 134217728}
    {"result": "2"} or {"error": "why"}

The result is JSON text made by the engine, or null where the script returns nothing that JSON has a form for.
"""

from __future__ import annotations

import json
import os
import resource
import sys

PROCESS_BYTES = 1024 * 1024 * 1024
"""What the process may take altogether: array buffers lie outside of the engine's heap."""

_WRAPPED = 'JSON.stringify((new Function("$", {script}))({context}))'


def evaluate(script: str, context: object, time_limit_s: float, memory_bytes: int) -> dict[str, object]:
    """The answer to one question."""
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
    """What went wrong, without the engine's picture of the source and its trace."""
    line = text.partition("\n")[0]
    place, colon, words = line.partition(": ")
    return words if colon and place.startswith(("<anonymous>", "undefined")) else line


def main() -> None:
    """One question, one answer."""
    resource.setrlimit(resource.RLIMIT_DATA, (PROCESS_BYTES, PROCESS_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    question = json.load(sys.stdin)
    json.dump(evaluate(**question), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # the engine's own threads may keep an orderly end waiting


if __name__ == "__main__":
    main()
