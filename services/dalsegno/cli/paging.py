"""Lists longer than a page: fetched page after page until there is enough."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

PAGE = 500


class Page(Protocol):
    """What every list answers with, beside the items."""

    next_page_token: str


P = TypeVar("P", bound=Page)
T = TypeVar("T")


def page_size(limit: int) -> int:
    """How many to ask for at once when at most `limit` (0: all) are wanted."""
    return min(limit or PAGE, PAGE)


async def read_pages(
    fetch: Callable[[str], Awaitable[P]], items: Callable[[P], Iterable[T]], limit: int = 0
) -> list[T]:
    """The items of all pages, at most `limit` (0: all). `fetch` takes a page token, empty for the first page."""
    found: list[T] = []
    token = ""
    while True:
        page = await fetch(token)
        found += items(page)
        token = page.next_page_token
        if not token or (limit and len(found) >= limit):
            return found[:limit] if limit else found
