"""What scripts/release asks about the wheel, its SBOM and the audit of what is pinned.

    python scripts/releasing/sbom.py requirements dist/dalsegno-0.1.0-py3-none-any.whl constraints.txt
    python scripts/releasing/sbom.py compare dist/dalsegno-0.1.0.cdx.json constraints.txt
    python scripts/releasing/sbom.py audited audit.json constraints.txt

The first prints what installs the wheel; the others say what is wrong, and then exit with code 1.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path
from zipfile import ZipFile

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NOT_SHIPPED = {"dev"}
"""The extras of the wheel that are for its developers."""


def read_metadata(wheel: Path) -> Metadata:
    """Return the metadata of a wheel."""
    with ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return Metadata.from_email(archive.read(name), validate=False)


def requirements_of(wheel: Path, constraints: str) -> str:
    """Return a requirements file that installs a wheel, all that it needs here with its extras, and nothing else.

    What these need in turn is read from the environment of the project, which has all that the constraints pin.
    """
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lines = [f"{read_metadata(wheel).name} @ {wheel.resolve().as_uri()} --hash=sha256:{digest}"]
    needed = needed_by(asked_by(wheel))
    for pin in re.split(r"^(?=[\w.-]+==)", constraints, flags=re.M)[1:]:
        if canonicalize_name(pin.partition("==")[0]) in needed:
            lines.append(re.sub(r"^ *#.*\n", "", pin, flags=re.M).strip())
    return "\n".join(lines)


def needed_by(asked: list[Requirement]) -> set[str]:
    """Return the names of these packages and of all that they need here."""
    found: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(each.name), extra) for each in asked for extra in ("", *each.extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for each in map(Requirement, requires(name) or ()):
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(each.name), more) for more in ("", *each.extras)]
    return {name for name, _ in found}


def read_pins(constraints: str) -> dict[str, str]:
    """Return the versions by name that a constraints file pins."""
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", constraints, re.M)}


def read_components(sbom: str) -> dict[str, str]:
    """Return the versions by name that an SBOM lists."""
    return {canonicalize_name(each["name"]): each["version"] for each in json.loads(sbom).get("components", ())}


def differences(components: dict[str, str], pins: dict[str, str], asked: Iterable[str]) -> list[str]:
    """Return what an SBOM has that is not pinned, has in another version, or lacks though the project asks for it."""
    found = []
    for name, version in components.items():
        if name not in pins:
            found.append(f"{name} {version} is in the SBOM, and constraints.txt does not pin it")
        elif version != pins[name]:
            found.append(f"{name} is {version} in the SBOM, and {pins[name]} in constraints.txt")
    found += [f"{name} is required, and not in the SBOM" for name in asked if name not in components]
    return found or ([] if components else ["the SBOM is empty"])


def asked_by(wheel: Path) -> list[Requirement]:
    """Return what a wheel requires here, with its extras."""
    metadata = read_metadata(wheel)
    extras = {"", *(metadata.provides_extra or ())} - NOT_SHIPPED
    requirements: list[Requirement] = metadata.requires_dist or []
    return [
        each
        for each in requirements
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def problems_of_audit(report: str) -> list[str]:
    """Return the vulnerabilities that an audit has found, and what it did not look at. One without an answer for any
    pin is itself a problem."""
    try:
        looked_at = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        return ["nothing was audited: the database of vulnerabilities did not answer"]
    known = {canonicalize_name(each["name"]) for each in looked_at if "skip_reason" not in each}
    if not known:
        return ["nothing was audited: the database of vulnerabilities knows none of the packages here"]
    found = [
        f"{each['name']} {each['version']}: {weakness['id']}, fixed in {', '.join(weakness['fix_versions']) or 'none'}"
        for each in looked_at
        for weakness in each.get("vulns", ())
    ]
    missed = sorted(each["name"] for each in looked_at if "skip_reason" in each)
    return found + ([f"not audited: {', '.join(missed)}"] if missed else [])


def main(arguments: list[str]) -> int:
    """Carry out one command; return the exit code."""
    command, path, constraints = arguments[0], Path(arguments[1]), Path(arguments[2]).read_text(encoding="utf-8")
    if command == "requirements":
        print(requirements_of(path, constraints))
        return 0
    pins = read_pins(constraints)
    if command == "compare":
        components = read_components(path.read_text(encoding="utf-8"))
        (wheel,) = path.parent.glob("*.whl")
        found = differences(components, pins, [canonicalize_name(each.name) for each in asked_by(wheel)])
        done = f"the SBOM has {len(components)} packages, all as constraints.txt pins them"
    else:
        found = problems_of_audit(path.read_text(encoding="utf-8") if path.exists() else "")
        done = "no known vulnerability"
    print("\n".join(found) or done, file=sys.stderr if found else sys.stdout)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
