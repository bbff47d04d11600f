"""Answer one ValidateDefinitions without a server: `python -m dalsegno.api.check`.

It reads a serialized ValidateDefinitionsRequest from standard input and writes the response to standard output. It
knows the built-in actions and those that the documents define. Exit code 2, with a message on standard error: the
request is refused.
"""

from __future__ import annotations

import asyncio
import sys

from dalsegno.api.registry import BuiltInRegistry
from dalsegno.api.validation import validate
from dalsegno.v1 import workflow_service_pb2 as wire
from dalsegno.workflow.refusals import Refusal


def main() -> int:
    """Answer the request; return the exit code."""
    request = wire.ValidateDefinitionsRequest.FromString(sys.stdin.buffer.read())
    try:
        answer = asyncio.run(validate(request, BuiltInRegistry(), None))
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 2
    sys.stdout.buffer.write(answer.SerializeToString())
    return 0


if __name__ == "__main__":
    sys.exit(main())
