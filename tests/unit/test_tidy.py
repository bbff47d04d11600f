"""The house rules that a program can check, so that no reviewer has to."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

# A ratchet: what we aim at is 50 and 500; these bounds only ever go down.
LONGEST_FUNCTION_LINES = 60
LONGEST_FILE_LINES = 600
SCREEN_LINES = 60

TOP_LEVEL = {
    *("protos", "services", "tests", "scripts"),
    *("pyproject.toml", "constraints.txt", "README.md", "CHANGELOG.md", "LICENSE"),
}
# Words that name no responsibility. (A function may say "base", which is a word of Mistral's language.)
EMPTY_WORDS = {"base", "common", "handler", "handlers", "helper", "helpers", "manager", "managers", "util", "utils"}
EMPTY_WORDS_OF_FUNCTIONS = EMPTY_WORDS - {"base"}
# Put together here, so that this file does not contain what it looks for.
FOREIGN_TEXTS = [
    *("pypi" + ".org", "python" + "hosted", "registry." + "npmjs", "--" + "index-url", "/" + "simple/"),
    *("/wo" + "rk/", "not " + "implemented", "NotImplemented" + "Error"),
]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def list_files() -> list[Path]:
    """Everything that belongs to the project: what git knows and what it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in sorted(set(listed.split("\0")) - {""}) if (path := ROOT / name).is_file()]


FILES = list_files()
SOURCES = [path for path in FILES if path.suffix == ".py"]
SCRIPTS = [path for path in FILES if path.parent == ROOT / "scripts" and os.access(path, os.X_OK)]


def walk_definitions(path: Path) -> Iterator[Function | ast.ClassDef]:
    """Every function and class of a source file, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, Function | ast.ClassDef):
            yield node


def split_words(name: str) -> set[str]:
    """`ConnectionPool` and `connection_pool` are both made of `connection` and `pool`."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def show(path: Path, line: int = 1) -> str:
    """A place that an editor can open."""
    return f"{path.relative_to(ROOT)}:{line}"


def test_functions_fit_a_screen() -> None:
    """No function is longer than what one sees at once."""
    assert [
        f"{show(path, node.lineno)} {node.name}"
        for path in SOURCES
        for node in walk_definitions(path)
        if isinstance(node, Function) and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION_LINES
    ] == []


def test_files_have_one_subject() -> None:
    """No source file is so long that it must have several subjects."""
    lengths = {show(path): path.read_text(encoding="utf-8").count("\n") for path in SOURCES}
    assert {place: lines for place, lines in lengths.items() if lines > LONGEST_FILE_LINES} == {}


def test_names_say_what_things_are() -> None:
    """No module, class or function is named by a word that fits everything."""
    named = [(f"{show(path)} {path.stem}", path.stem, EMPTY_WORDS) for path in SOURCES]
    for path in SOURCES:
        for node in walk_definitions(path):
            empty = EMPTY_WORDS_OF_FUNCTIONS if isinstance(node, Function) else EMPTY_WORDS
            named.append((f"{show(path, node.lineno)} {node.name}", node.name, empty))
    assert [place for place, name, empty in named if split_words(name) & empty] == []


def test_files_name_no_foreign_place() -> None:
    """No file names an address of a package index or a folder of one machine, and none says that it is unfinished."""
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in FILES}
    assert [
        f"{show(path)} {foreign}"
        for path, text in texts.items()
        for foreign in FOREIGN_TEXTS
        if foreign.lower() in text.lower()
    ] == []


def test_top_level_is_the_map() -> None:
    """At the top lie the four folders and the files that a newcomer looks for, and nothing else but dot files."""
    entries = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert {entry for entry in entries if not entry.startswith(".")} <= TOP_LEVEL


def test_all_requirements_are_pinned() -> None:
    """Whatever pyproject.toml asks for stands in constraints.txt, so that a new clone installs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    asked += [name for extra in project["project"]["optional-dependencies"].values() for name in extra]
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    pinned = {canonicalize_name(pin) for pin in pins} | {"dalsegno"}
    assert [name for name in asked if canonicalize_name(Requirement(name).name) not in pinned] == []


def test_tests_state_their_claim() -> None:
    """Every test has a docstring, which says what is true when it passes."""
    assert [
        f"{show(path, node.lineno)} {node.name}"
        for path in SOURCES
        if path.is_relative_to(ROOT / "tests") and path.name.startswith("test_")
        for node in walk_definitions(path)
        if isinstance(node, Function) and node.name.startswith("test_") and ast.get_docstring(node) is None
    ] == []


def test_modules_say_what_they_are_for() -> None:
    """Every source file opens with a docstring."""
    modules = {show(path): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert [place for place, module in modules.items() if ast.get_docstring(module) is None] == []


def test_only_shells_speak_the_wire() -> None:
    """The generated stubs, which import-linter does not see, are imported by the shells and by clients only."""
    rooms = {"workflow", "expressions", "definitions", "actions", "store"}
    package = ROOT / "services" / "dalsegno"
    assert [
        show(path)
        for path in SOURCES
        if path.is_relative_to(package) and path.relative_to(package).parts[0] in rooms
        if re.search(r"^\s*(from|import) dalsegno\.v1", path.read_text(encoding="utf-8"), re.MULTILINE)
    ] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_explain_themselves(script: Path, tmp_path: Path) -> None:
    """Every script answers --help from any folder, quickly and without setting anything up."""
    answer = subprocess.run([script, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=10)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(f"scripts/{script.name}: ")


def test_scripts_fit_a_screen() -> None:
    """Everything in scripts/ can be read without scrolling."""
    lengths = {
        show(path): path.read_text(encoding="utf-8").count("\n") for path in FILES if path.parent.name == "scripts"
    }
    assert {place: lines for place, lines in lengths.items() if lines > SCREEN_LINES} == {}
