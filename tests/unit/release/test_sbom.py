"""What scripts/release finds wrong with a wheel, its SBOM and the audit of its requirements."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[3]
_spec = spec_from_file_location("sbom", ROOT / "scripts" / "releasing" / "sbom.py")
assert _spec is not None
assert _spec.loader is not None
sbom: Any = module_from_spec(_spec)
_spec.loader.exec_module(sbom)

METADATA = """Metadata-Version: 2.4
Name: example
Version: 1.0
Requires-Dist: alpha>=1
Requires-Dist: old; python_version < "3"
Provides-Extra: fast
Requires-Dist: quick>=2; extra == "fast"
Provides-Extra: dev
Requires-Dist: checker; extra == "dev"
"""
PINS = (
    "# made by a tool\nAlpha==1.2 \\\n    --hash=sha256:00\nquick==2.0 ; python_full_version < '3.13'\nchecker==3.0\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Provide a folder with a wheel, its SBOM and constraints."""
    with ZipFile(tmp_path / "example-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("example-1.0.dist-info/METADATA", METADATA)
    (tmp_path / "constraints.txt").write_text(PINS)
    return tmp_path


def compare(folder: Path, **components: str) -> int:
    """Compare an SBOM with these components; return the exit code."""
    written = {"components": [{"name": name, "version": version} for name, version in components.items()]}
    (folder / "example-1.0.cdx.json").write_text(json.dumps(written))
    return int(sbom.main(["compare", str(folder / "example-1.0.cdx.json"), str(folder / "constraints.txt")]))


def test_an_sbom_that_is_as_pinned(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An SBOM with what the wheel requires, as it is pinned, is right; tools of developers are not in it."""
    assert compare(folder, alpha="1.2", quick="2.0") == 0
    assert capsys.readouterr().out == "the SBOM has 2 packages, all as constraints.txt pins them\n"


@pytest.mark.parametrize(
    ("components", "wrong"),
    [
        ({"alpha": "1.3", "quick": "2.0"}, "alpha is 1.3 in the SBOM, and 1.2 in constraints.txt"),
        ({"alpha": "1.2"}, "quick is required, and not in the SBOM"),
        ({"alpha": "1.2", "quick": "2.0", "more": "9"}, "more 9 is in the SBOM, and constraints.txt does not pin it"),
        ({}, "alpha is required, and not in the SBOM\nquick is required, and not in the SBOM"),
    ],
)
def test_an_sbom_that_differs(
    folder: Path, components: dict[str, str], wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each difference between SBOM, constraints and wheel is an error that names the package."""
    assert compare(folder, **components) == 1
    assert capsys.readouterr().err == f"{wrong}\n"


def test_a_wheel_is_installed_with_what_it_needs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The requirements have the wheel's file with its hash, and the pins of all that it needs, but of no other."""
    needs = {"alpha": ["deep[more]>=1"], "deep": ["deeper; extra == 'more'", "unused; extra == 'less'"]}
    monkeypatch.setattr(sbom, "requires", needs.get)
    more = "deep==1.0\ndeeper==2.0\n    # via deep\nunused==3.0\n"
    (folder / "constraints.txt").write_text(PINS + more)
    (wheel,) = folder.glob("*.whl")
    assert sbom.main(["requirements", str(wheel), str(folder / "constraints.txt")]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith(f"example @ {wheel.as_uri()} --hash=sha256:")
    assert len(first.rpartition(":")[2]) == 64
    assert others == [*PINS.splitlines()[1:4], "deep==1.0", "deeper==2.0"]


CLEAN = {"name": "alpha", "version": "1.2", "vulns": []}
WEAK = {"name": "quick", "version": "2.0", "vulns": [{"id": "EXAMPLE-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "checker", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("dependencies", "told"),
    [
        ([CLEAN], ""),
        ([CLEAN, WEAK], "quick 2.0: EXAMPLE-1, fixed in 2.1"),
        ([CLEAN, SKIPPED], "not audited: checker"),
        ([SKIPPED], "nothing was audited: the database of vulnerabilities knows none of the packages here"),
        ([], "nothing was audited: the database of vulnerabilities knows none of the packages here"),
        (None, "nothing was audited: the database of vulnerabilities did not answer"),
    ],
)
def test_an_audit_of_nothing_is_a_failure(
    folder: Path, dependencies: list[Any] | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only an audit that has looked at all packages, and found nothing, passes."""
    report = folder / "audit.json"
    if dependencies is not None:
        report.write_text(json.dumps({"dependencies": dependencies, "fixes": []}))
    assert sbom.main(["audited", str(report), str(folder / "constraints.txt")]) == (1 if told else 0)
    assert capsys.readouterr().err.strip() == told
