"""The house rules that a program can check, so that no reviewer has to."""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
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


def test_the_version_has_its_changelog() -> None:
    """The newest release in CHANGELOG.md is the version of the package, and has a date."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d", headings[1])


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


def test_marked_tests_say_why() -> None:
    """A test that does not decide (xfail), runs by itself (alone) or on one Python (long) gives a reason."""
    marks = {"pytest.mark.xfail": "reason=", "pytest.mark.alone": "(", "pytest.mark.long": "("}
    assert [
        f"{show(path, number)} {line.strip()}"
        for path in SOURCES
        if path.is_relative_to(ROOT / "tests") and path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for mark, reason in marks.items()
        if mark in line and reason not in line.partition(mark)[2]
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


def test_what_tests_start_ends_with_them() -> None:
    """Every process that a test or a benchmark starts and goes on beside is `tied` to it (see tests/tied.py)."""
    calls = {"Popen", "create_subprocess_exec"}
    assert [
        show(path, node.lineno)
        for path in SOURCES
        if path.is_relative_to(ROOT / "tests")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in calls
        if "tied(" not in ast.unparse(node)
    ] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_explain_themselves(script: Path, tmp_path: Path) -> None:
    """Every script answers --help from any folder, quickly and without setting anything up."""
    answer = subprocess.run([script, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(f"scripts/{script.name}: ")


def test_scripts_fit_a_screen() -> None:
    """Everything in scripts/ can be read without scrolling."""
    lengths = {
        show(path): path.read_text(encoding="utf-8").count("\n") for path in FILES if path.parent.name == "scripts"
    }
    assert {place: lines for place, lines in lengths.items() if lines > SCREEN_LINES} == {}


RULES = ROOT / "services" / "dalsegno" / "workflow" / "README.md"
PAGES = [path for path in FILES if path.suffix == ".md"]
BEHAVIOUR_COUNTS = {"R": 28, "O": 36, "P": 26, "S": 18, "C": 32}
BEHAVIOURS = {f"{letter}{number}" for letter, count in BEHAVIOUR_COUNTS.items() for number in range(1, count + 1)}
DECISIONS = {str(number) for number in range(1, 25)}

WORDED = {"", ".py", ".md", ".proto", ".js", ".toml", ".yaml"}
"""The kinds of files that cite; those without a suffix are scripts."""

_BEHAVIOUR = re.compile(r"(?<![\w%.-])[ROPSC]\d{1,2}\b")
_DECISIONS = re.compile(r"(?:\b([A-Z][A-Z.]{3,})(?:\.md)? )?\b[Dd]ecisions? (\d+(?:(?:, (?:and )?| and |-)\d+\b)*)")
_SECTION = re.compile(r"\b([A-Z][A-Z.]{3,})(?:\.md)? sections? \d")
_PAGE = re.compile(r"(?<![\w/])(?:[\w.-]+/)*[\w-]+\.md\b(?:#[\w-]+)?")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


def read_words(path: Path) -> list[tuple[int, str]]:
    """What a file says to its readers, each part with its line: comments and docstrings of Python, else all of it."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix != ".py":
        return list(enumerate(text.split("\n"), 1))
    words = [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            words.append((node.lineno, " ".join(node.value.value.split())))
    return words


@cache
def list_anchors(page: Path) -> set[str]:
    """The names by which the headings of a page are linked."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@cache
def find_page(name: str, near: Path) -> Path | None:
    """The page of this name: beside the file, from the top, or the only one with this end of its path."""
    for page in ((near.parent / name).resolve(), ROOT / name):
        if page.exists():
            return page
    pages = [path for path in PAGES if "/" in name and str(path).endswith(f"/{name}")]
    return pages[0] if len(pages) == 1 else None


def has_anchor(page: Path | None, anchor: str) -> bool:
    """Whether there is such a page, with such a heading if one is named."""
    return page is not None and (not anchor or anchor in list_anchors(page))


def has_place(place: str, near: Path) -> bool:
    """Whether a cited page exists, and its heading: `mistral/README.md#joins`."""
    name, _, anchor = place.partition("#")
    return has_anchor(find_page(name, near), anchor)


def has_link(link: str, page: Path) -> bool:
    """Whether a link of a page leads to a file or folder, and to a heading of it."""
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and has_anchor(target, anchor)


def find_missing(text: str, near: Path) -> list[str]:
    """What a text cites that does not exist: behaviours, decisions and pages."""
    missing = [name for name in _BEHAVIOUR.findall(text) if name not in BEHAVIOURS]
    for document, numbers in _DECISIONS.findall(text):
        if document not in {"", "README"}:
            missing.append(f"{document} decision")
        missing += [f"decision {number}" for number in re.findall(r"\d+", numbers) if number not in DECISIONS]
    missing += [f"{document} section" for document in _SECTION.findall(text)]
    return missing + [place for place in _PAGE.findall(text) if not has_place(place, near)]


def test_what_is_cited_exists() -> None:
    """Whatever behaviour, decision or page a file names has an entry in the repository."""
    own = Path(__file__)
    generated = ROOT / "services" / "dalsegno" / "v1"
    assert [
        f"{show(path, line)} {missing}"
        for path in FILES
        if path != own and path.suffix in WORDED and not path.is_relative_to(generated)
        for line, text in read_words(path)
        for missing in find_missing(text, path)
    ] == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("It is refused (R4, decision 1).", []),
        ("See decisions 3 and 11, O13-O15, and mistral/README.md#joins.", []),
        ("It is refused (R29).", ["R29"]),
        ("See decisions 3, 25 and 4.", ["decision 25"]),
        ("See BEHAVIOURS decision 3.", ["BEHAVIOURS decision"]),
        ("See MISTRAL.md section 5.", ["MISTRAL section", "MISTRAL.md"]),
        ("See mistral/README.md#nothing.", ["mistral/README.md#nothing"]),
        ("See reference/LIMITS.md.", ["reference/LIMITS.md"]),
    ],
)
def test_a_citation_of_what_is_missing_is_found(text: str, missing: list[str]) -> None:
    """The search finds citations of what does not exist, and no others."""
    assert find_missing(text, RULES) == missing


def test_every_behaviour_and_decision_has_one_entry() -> None:
    """The page of the core has exactly one entry for each of the 140 behaviours and each decision."""
    text = RULES.read_text(encoding="utf-8")
    behaviours = re.findall(r"^\| ([ROPSC]\d+) \| \S", text, re.MULTILINE)
    decisions = re.findall(r"^(?:### |- \*\*)Decision (\d+)\b", text, re.MULTILINE)
    assert (sorted(behaviours), sorted(decisions)) == (sorted(BEHAVIOURS), sorted(DECISIONS))


def test_links_lead_somewhere() -> None:
    """Every link of a page to another page, a heading or a file leads to what exists."""
    assert [
        f"{show(page)} {link}"
        for page in PAGES
        for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
        if not link.startswith("https://") and not has_link(link, page)
    ] == []


def test_pages_name_files_that_exist() -> None:
    """Every Python file that a page names is in the repository, so that no map is out of date."""
    migration = "services/dalsegno/store/migrations/versions/vNNNN_what.py"
    readers = {"greetings/greetings.py", "recipe.py", migration}
    """Files that a reader makes."""
    names = [str(path.relative_to(ROOT)) for path in FILES]
    assert [
        f"{show(page)} {name}"
        for page in PAGES
        for name in re.findall(r"(?<![\w/.])[\w/]+\.py\b", page.read_text(encoding="utf-8"))
        if name not in readers and not any(f"/{known}".endswith(f"/{name}") for known in names)
    ] == []
