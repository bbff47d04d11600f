"""Generate services/dalsegno/v1 from protos/: as a build hook of hatchling, and from the command line (scripts/protos).

The stubs are not checked in. A proto's path is its Python import path, so the generated imports are right as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path("dalsegno", "v1")
PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")


def generate(root: Path) -> list[Path]:
    """Bring services/dalsegno/v1 in line with protos/dalsegno/v1 and return the files, relative to `root`."""
    target = root / "services" / PACKAGE
    target.mkdir(parents=True, exist_ok=True)
    protos = sorted((root / "protos" / PACKAGE).glob("*.proto"))
    # Generated aside and moved file by file, so that a program that imports the stubs meanwhile never reads half of one.
    with tempfile.TemporaryDirectory(dir=target, prefix=".generating-") as aside:
        if protos:
            _compile(root / "protos", protos, Path(aside))
        fresh = {path.name: path for path in Path(aside).rglob("*_pb2*.py*")}
        for stale in target.glob("*_pb2*.py*"):
            if stale.name not in fresh:
                stale.unlink()
        for name, path in fresh.items():
            _replace_if_changed(path, target / name)
    return sorted((target / name).relative_to(root) for name in fresh)


def _replace_if_changed(fresh: Path, target: Path) -> None:
    if not target.exists() or target.read_bytes() != fresh.read_bytes():
        fresh.replace(target)


def _compile(include: Path, protos: list[Path], out: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{include}"]
    command += [f"--plugin={name}={_find_plugin(name)}" for name in PLUGINS]
    command += [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    done = subprocess.run([*command, *map(str, protos)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"protoc refused the protos:\n{done.stderr}")


def _find_plugin(name: str) -> str:
    # Beside this interpreter first (a virtual environment that is not activated), then on PATH (an isolated build).
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        raise SystemExit(f"{name} is not installed beside {sys.executable}: it comes with mypy-protobuf")
    return found


class StubsBuildHook(BuildHookInterface[Any]):
    """Generates the stubs before a wheel (editable ones too) is built, and takes them into it although git ignores them."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Run by hatchling before each build of the target that the hook is registered for."""
        build_data["artifacts"].extend(path.as_posix() for path in generate(Path(self.root)))


if __name__ == "__main__":
    for generated in generate(Path(__file__).resolve().parent.parent):
        print(generated)
