"""Text that somebody else wrote, made safe to show: nothing of it moves the cursor, hides, or begins a line of its own.

What a terminal would obey is shown as a sign in its place, one character for one: ESC as ␛, a line feed within a line
as ␊, what turns the direction of writing or has no sign of its own as �.
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
    """The text with its lines and tabs, and without anything else that a terminal would obey.

    >>> visible("one\\r\\ntwo\\x1b[2J")
    'one\\ntwo␛[2J'
    """
    return text.replace("\r\n", "\n").translate(_IN_BLOCKS)


def one_line(text: str) -> str:
    """The text as part of one line.

    >>> one_line("harbour\\nerror: forged")
    'harbour␊error: forged'
    """
    return text.translate(_IN_LINES)


def word(name: str) -> str:
    """A name as it can be copied into a shell; of one that is no plain word only that there is one.

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
    """Whether the text needs no escape."""
    return _ESCAPED.search(text) is None
