"""The output options of the command line: format, field, style of times."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(slots=True)
class Printing:
    """The chosen options; one command runs in one process, so there is one instance."""

    form: Format = Format.TABLE
    key: str = ""
    """The path of the only field that is printed; empty: everything."""
    time: str = ""
    """`relative`, `local`, `utc` or a time zone; empty: the time of day, with the date if it is not today."""

    def reset(self) -> None:
        """Reset the options to their defaults."""
        self.form, self.key, self.time = Format.TABLE, "", ""


PRINTING = Printing()
