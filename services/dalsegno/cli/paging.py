"""Read lists page by page, until there is enough."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

PAGE = 500


class Page(Protocol):
    """The fields that the answer of every list has, beside the items."""

    next_page_token: str


P = TypeVar("P", bound=Page)
T = TypeVar("T")


def page_size(limit: int) -> int:
    """Return the page size to request for at most `limit` items (0: all)."""
    return min(limit or PAGE, PAGE)


async def read_pages(
    fetch: Callable[[str], Awaitable[P]], items: Callable[[P], Iterable[T]], limit: int = 0
) -> list[T]:
    """Return the items of all pages, at most `limit` (0: all). `fetch` takes a page token, empty for the first page."""
    found: list[T] = []
    token = ""
    while True:
        page = await fetch(token)
        found += items(page)
        token = page.next_page_token
        if not token or (limit and len(found) >= limit):
            return found[:limit] if limit else found
