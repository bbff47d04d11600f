"""A folder for programs that are JavaScript modules: what npm installed, and what protoc-gen-es makes of the protos.

(Modules look for packages above their own folder only.)
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from tests.polyglot.programs import MODULES, PROTOS, PYTHON, finish, install, start


async def prepare(folder: Path, programs: Iterable[Path] = ()) -> None:
    """Fill the folder: `node_modules`, `gen`, and copies of the programs."""
    await install()
    packages, generated = folder / "node_modules", folder / "gen"
    packages.symlink_to(MODULES / "node_modules")
    generated.mkdir()
    files = [str(path.relative_to(PROTOS)) for path in sorted(PROTOS.glob("dalsegno/v1/*.proto"))]
    plugin = packages / ".bin" / "protoc-gen-es"
    options = (f"--plugin=protoc-gen-es={plugin}", f"--es_out={generated}", "--es_opt=target=js,import_extension=js")
    paths = (f"-I{PROTOS}", f"-I{_google()}")
    files.append("google/rpc/error_details.proto")
    code, _, errors = await finish(await start(PYTHON, "-m", "grpc_tools.protoc", *paths, *options, *files))
    assert code == 0, errors
    for path in programs:
        shutil.copy(path, folder)


def _google() -> Path:
    """Where google/rpc/*.proto are: in the package googleapis-common-protos."""
    found = find_spec("google.rpc")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(next(iter(found.submodule_search_locations))).parents[1]
