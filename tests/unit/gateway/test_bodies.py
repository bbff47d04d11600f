"""Bodies of webhooks."""

from __future__ import annotations

from typing import Any

import pytest

from dalsegno.gateway.bodies import BodyKind, BodyType, read_body
from dalsegno.workflow.refusals import InvalidRequest


@pytest.mark.parametrize("sent", [[], [b"only the beginn"]], ids=["before its first byte", "in the middle"])
async def test_a_body_that_is_cut_off_is_refused(sent: list[bytes]) -> None:
    """What has come of it is no result."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": each, "more_body": True} for each in sent]
    messages.append({"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    with pytest.raises(InvalidRequest, match="the body has ended before its end"):
        await read_body(receive, BodyKind(BodyType.TEXT, "utf-8"))
