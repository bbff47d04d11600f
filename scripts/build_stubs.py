"""Generate services/dalsegno/v1 from protos/: as hatchling's build hook, and from the command line for scripts/protos.

The stubs are not checked in. A proto's path is its Python import path, so the generated imports are correct unchanged.
"""

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
OUTPUTS = ("python", "grpc_python", "mypy", "mypy_grpc")
DESCRIPTORS = "descriptors.binpb"  # beside the stubs: the protos with their comments, for reflection


def generate(root: Path) -> list[Path]:
    """Generate services/dalsegno/v1 from protos/dalsegno/v1 and return its files, relative to `root`."""
    target = root / "services" / PACKAGE
    target.mkdir(parents=True, exist_ok=True)
    # Generated outside of the package, which a check may read now, and moved file by file: nothing imports half a file.
    with tempfile.TemporaryDirectory(dir=root / "services", prefix=".generating-") as aside:
        run_protoc(root / "protos", Path(aside))
        fresh = {path.name: path for path in Path(aside).rglob("*_pb2*.py*")}
        fresh[DESCRIPTORS] = Path(aside, DESCRIPTORS)
        for stale in {path.name for path in target.glob("*_pb2*.py*")} - fresh.keys():
            (target / stale).unlink()
        for name, path in fresh.items():
            path.replace(target / name)
    return sorted((target / name).relative_to(root) for name in fresh)


def run_protoc(protos: Path, out: Path) -> None:
    """Compile every proto of the package, with types for mypy; end the program with protoc's errors if it fails."""
    # First beside this interpreter (an environment that is not activated), then on PATH (an isolated build).
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}"]
    command += [f"--plugin={plugin}={shutil.which(plugin, path=path)}" for plugin in PLUGINS]
    command += [f"--{kind}_out={out}" for kind in OUTPUTS]
    command += [f"--descriptor_set_out={out / DESCRIPTORS}", "--include_source_info"]
    done = subprocess.run([*command, *sorted((protos / PACKAGE).glob("*.proto"))], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"protoc refused the protos:\n{done.stderr}")


class StubsBuildHook(BuildHookInterface[Any]):
    """Generates the stubs before a wheel (an editable one too) is built, and packs them although git ignores them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate the stubs; hatchling calls this before it builds."""
        build_data["artifacts"].extend(path.as_posix() for path in generate(Path(self.root)))


if __name__ == "__main__":
    print(*generate(Path(__file__).resolve().parent.parent), sep="\n")
