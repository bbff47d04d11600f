"""Make foreign text safe to print: it cannot move the cursor, hide other text, or start a line.

Each character that controls a terminal is replaced by one symbol: ESC by ␛, a line feed within a line by ␊, marks of
writing direction and characters without a symbol by �.
"""

from __future__ import annotations

import re

_TURNS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_LINES = (0x2028, 0x2029)
_UNSAFE = (*range(0x80, 0xA0), *_TURNS, *_LINES, 0xFEFF, *range(0xFFF9, 0xFFFC), *range(0xD800, 0xE000))
_SIGNS = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "␡"} | dict.fromkeys(_UNSAFE, "�")
_IN_LINES = {**_SIGNS, 0x09: " "}
_IN_BLOCKS = {code: sign for code, sign in _SIGNS.items() if code not in (0x09, 0x0A)}
_ESCAPED = re.compile(f"[\x7f{''.join(map(chr, _UNSAFE))}]")


def visible(text: str) -> str:
    """Return the text with its lines and tabs, and with symbols for all other control characters.

    >>> visible("one\\r\\ntwo\\x1b[2J")
    'one\\ntwo␛[2J'
    """
    return text.replace("\r\n", "\n").translate(_IN_BLOCKS)


def one_line(text: str) -> str:
    """Return the text as part of one line.

    >>> one_line("harbour\\nerror: forged")
    'harbour␊error: forged'
    """
    return text.translate(_IN_LINES)


def word(name: str) -> str:
    """Return a name that can be copied into a shell; NAME for one with characters that a shell interprets.

    >>> word("fetch"), word("x; rm -r /")
    ('fetch', 'NAME')
    """
    return name if re.fullmatch(r"[\w.-]{1,64}", name) else "NAME"


def escape(document: str) -> str:
    """JSON or YAML text in which only quoted texts hold unsafe characters, with those written as escapes.

    >>> escape('"a\\x9b31m"')
    '"a\\\\u009b31m"'
    """
    return _ESCAPED.sub(lambda found: f"\\u{ord(found.group()):04x}", document)


def is_plain(text: str) -> bool:
    """Return whether the text needs no escape."""
    return _ESCAPED.search(text) is None
