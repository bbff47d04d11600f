"""Read the definitions that a command names (files, folders, standard input), and check them without a server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from dalsegno.cli.exits import ERROR, CommandError
from dalsegno.cli.inputs import read_document
from dalsegno.v1 import workflow_service_pb2 as wire

SUFFIXES = (".yaml", ".yml")
DOCUMENT_BYTES_MAX = 4_000_000
DOCUMENTS_BYTES_MAX = 15_000_000
"""The limits of a server: for one document, and for all in one request."""
_NAMED = 5
"""The number of sizes that an error lists at most."""


def read_documents(paths: Iterable[Path], name: str = "") -> list[wire.DefinitionDocument]:
    """Read every file of the paths; a folder means all YAML files in it and below, without hidden ones.

    `name` is for the only file. Raises CommandError if a file cannot be read, there is none, or they are too large.
    """
    files = list(dict.fromkeys(file for path in paths for file in _files_of(path)))
    if name and len(files) > 1:
        raise CommandError(f"--name is for one file, and there are {len(files)}")
    documents = [wire.DefinitionDocument(file=str(file), text=read_document(file), name=name) for file in files]
    _check_sizes(documents)
    return documents


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(_walk(path))
    if not found:
        raise CommandError(f"there is no YAML file in {path}", f"files end with {' or '.join(SUFFIXES)}")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for each in files:
            if each.endswith(SUFFIXES) and not each.startswith("."):
                yield Path(root) / each


def _check_sizes(documents: Iterable[wire.DefinitionDocument]) -> None:
    """Raise CommandError with the largest sizes if the documents exceed the limits of a server."""
    sizes = sorted(((len(each.text.encode()), each.file) for each in documents), reverse=True)
    told = "".join(f"\n  {size:>12,}  {file}" for size, file in sizes[:_NAMED])
    if len(sizes) > _NAMED:
        rest = sizes[_NAMED:]
        told += f"\n  {sum(size for size, _ in rest):>12,}  in {len(rest)} more"
    if sizes[0][0] > DOCUMENT_BYTES_MAX:
        raise CommandError(
            f"a definition has at most {DOCUMENT_BYTES_MAX:,} bytes; nothing was sent:{told}",
            "make it smaller: move parts of it to sub-workflows",
        )
    total = sum(size for size, _ in sizes)
    if total > DOCUMENTS_BYTES_MAX:
        raise CommandError(
            f"{len(sizes)} files have {total:,} bytes together, and {DOCUMENTS_BYTES_MAX:,} go into one request; "
            f"nothing was sent:{told}",
            "store them in several commands",
        )


def validate_here(request: wire.ValidateDefinitionsRequest) -> wire.ValidateDefinitionsResponse:
    """Validate in a separate process that knows only the built-in actions. Raises CommandError."""
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "dalsegno.api.check"],
        input=request.SerializeToString(),
        capture_output=True,
        check=False,
    )
    if ended.returncode:
        told = ended.stderr.decode(errors="replace").strip()
        raise CommandError(told or "the definitions cannot be checked", exit_code=2 if ended.returncode == 2 else ERROR)
    return wire.ValidateDefinitionsResponse.FromString(ended.stdout)
