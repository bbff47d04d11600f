"""Tables fit the terminal: ids stay whole, long reasons have their own lines, and each cut has a sign."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.text import Text

from dalsegno.cli.screen import Screen
from dalsegno.cli.showing import print_capped
from dalsegno.cli.table import fold, lay_out

ID = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
COLUMNS = ("EXECUTION", "WORKFLOW", "STATE", "TOOK", "LABELS", "INFO")
LONG = "HTTP 404 Not Found: GET http://127.0.0.1:8480/weather/Moorgat?with=very&many=parameters&and=more"


def table(width: int | None, *rows: tuple[str, ...], columns: tuple[str, ...] = COLUMNS) -> list[str]:
    """Return the lines of a table."""
    return [line.plain for line in lay_out(columns, [[Text(cell) for cell in row] for row in rows], width)]


ROWS = (
    (ID, "harbour.arrival", "ERROR", "2 min 05 s", "team=harbour", LONG),
    (ID, "w", "RUNNING", "", "", "waits"),
)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 200])
def test_nothing_is_wider_than_the_terminal_and_ids_are_whole(width: int) -> None:
    """At every width each id is on one line, and every word of the row is printed."""
    lines = table(width, *ROWS)

    assert max(map(cell_len, lines)) <= width
    assert sum(ID in line for line in lines) == 2
    everything = "".join("".join(line.split()) for line in lines)
    for cell in (cell for row in ROWS for cell in row):
        assert "".join(cell.split()) in everything


def test_columns_without_anything_in_them_are_left_out() -> None:
    """A column that is empty in every row is not printed."""
    lines = table(None, (ID, "w", "SUCCESS", "", "", ""))

    assert lines == [f"{'EXECUTION':36}  WORKFLOW  STATE", f"{ID}  w         SUCCESS"]


def test_a_pipe_gets_a_row_on_a_line() -> None:
    """In a pipe each row is one line, however long."""
    lines = table(None, *ROWS)

    assert len(lines) == 3
    assert lines[1].endswith(LONG)


def test_short_reasons_stay_in_their_column_and_long_ones_stand_below() -> None:
    """A reason that fits is in its column; another one has its own lines below."""
    lines = table(90, (ID, "w", "ERROR", "1 s", "", LONG), (ID, "w", "RUNNING", "", "", "waits"))

    assert lines[0].endswith("INFO")
    assert lines[2].startswith("  HTTP 404")
    assert lines[-1].endswith("waits")


def test_what_is_cut_has_a_sign() -> None:
    """Names beyond 32 cells, texts beyond six lines, and in a pipe beyond 2,000 characters, end with an ellipsis."""
    [_, row, *below] = table(80, (ID, "n" * 50, "ERROR", "", "", "word " * 300))

    assert f"{'n' * 31}…" in "".join([row, *below])
    assert len(below) <= 8
    assert below[-1].rstrip().endswith("…")
    assert table(None, (ID, "w", "ERROR", "", "", "x" * 3_000))[1].endswith("x…")


def test_wide_characters_count_as_two_cells() -> None:
    """A Japanese character counts as two cells."""
    lines = table(None, ("港", "a"), ("x", "b"), columns=("ID", "NAME"))

    assert lines == ["ID  NAME", "港  a", "x   b"]


def test_folded_lines_stand_to_the_right() -> None:
    """A folded line does not begin at the margin, where a line of the program begins."""
    assert [line.plain for line in fold(Text("one two three"), 12, 4)] == ["    one two", "    three"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\n".join(map(str, range(50))), "… 10 more lines: dalsegno output E"),
        ("x" * 1_300_000, "… 1,296,000 more characters: dalsegno output E"),
        ("x" * 4_000, ""),
    ],
)
def test_a_long_value_is_cut_by_lines_and_by_characters(text: str, left: str) -> None:
    """A long text without line breaks is cut as one of many lines is, and the rest is counted."""
    file = io.StringIO()
    print_capped(Screen(file, 80), text, 40, "dalsegno output E")
    printed = file.getvalue().splitlines()
    assert len(printed) < 60
    assert (left in printed[-1].strip()) if left else ("…" not in printed[-1])
