"""Resume tokens: where a watcher of an execution goes on."""

from __future__ import annotations

import base64
import re

from dalsegno.rpc.gate import NUMBER_MAX
from dalsegno.workflow.refusals import InvalidResumeToken


def write_resume_token(execution_id: str, revision: int) -> str:
    """The token of a watcher who has everything up to this revision; 0: nothing yet.

    >>> read_resume_token(write_resume_token("e", 7), "e")
    7
    """
    return base64.urlsafe_b64encode(f"w1 {execution_id} {revision}".encode()).decode().rstrip("=")


def read_resume_token(token: str, execution_id: str) -> int:
    """The revision in a token of this execution. Raises InvalidResumeToken."""
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
        version, owner, revision = text.split(" ")
    except ValueError:
        raise InvalidResumeToken.of("resume_token", "is not one of ours") from None
    if version != "w1" or not re.fullmatch(r"[0-9]{1,10}", revision) or int(revision) > NUMBER_MAX:
        raise InvalidResumeToken.of("resume_token", "is not one of ours")
    if owner != execution_id:
        raise InvalidResumeToken.of("resume_token", f"is for execution {owner}")
    return int(revision)
