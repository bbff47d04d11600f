"""Copies the project's own cases again from the recordings: `python -m tests.conformance.cases.copy_own`.

Run it from the root of the checkout when the recordings in ../shared/conformance (or DALSEGNO_CONFORMANCE) have
changed.
"""

from __future__ import annotations

import sys

from tests.conformance.recorded import FILES, OWN_FOLDER, absence, others_folder, read_lines, select_own


def main() -> int:
    """Write the files beside this one again. Without the recordings, change nothing and return 2."""
    if told := absence():
        print(told, file=sys.stderr)
        return 2
    for name in FILES:
        own = select_own(read_lines(others_folder() / name))
        target = OWN_FOLDER / name
        target.parent.mkdir(exist_ok=True)
        target.write_text("".join(f"{line}\n" for line in own), encoding="utf-8")
        print(f"{target}: {len(own)} cases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
