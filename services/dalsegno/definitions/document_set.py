"""A set of documents: their names, and the problems between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from dalsegno.definitions.document import Document, DocumentKind, Member, MemberKind, explain_nameless
from dalsegno.definitions.problems import PROBLEMS_MAX, SEMANTIC, Problem
from dalsegno.definitions.stackstorm import ActionFile, read_action_file


@dataclass(frozen=True, slots=True)
class Text:
    """One document of a request."""

    text: str
    name: str = ""
    """The name of its workflow, if the request gives one."""
    file: str = ""
    """Its file; empty if it is the only document."""
    language: str = ""
    """The language in the request; empty: not given."""


@dataclass(slots=True)
class ProblemList:
    """Problems or warnings in the order of the documents and lines, at most PROBLEMS_MAX, and how many more."""

    what: str
    """problems or warnings."""
    listed: list[Problem] = field(default_factory=list)
    further: int = 0

    def add(self, found: Sequence[Problem], further: int) -> None:
        """Add the entries of one more document, and the number of its further ones."""
        self.listed += found
        self.further += further + max(0, len(self.listed) - PROBLEMS_MAX)
        del self.listed[PROBLEMS_MAX:]

    @property
    def counted(self) -> list[Problem]:
        """Return all listed entries, and as the last one the number of further ones."""
        if not self.further:
            return self.listed
        last = self.listed[-1]
        more = Problem("", last.line, last.column, f"and {self.further} further {self.what}", file=last.file)
        return [*self.listed, more]


def name_by_metadata(texts: Sequence[Text]) -> list[Text]:
    """Return the texts; those without a name get it from StackStorm's metadata among them."""
    actions = [found for each in texts if (found := read_action_file(each.text, each.file)) is not None]
    return [replace(each, name=each.name or _name_of(each, actions)) for each in texts] if actions else list(texts)


def _name_of(text: Text, actions: Iterable[ActionFile]) -> str:
    return next((each.name for each in actions if each.is_of(text.file)), "")


def compare(texts: Sequence[Text], documents: Sequence[Document], *, is_stored: bool) -> list[Document]:
    """Return the documents with their files, and with the problems between them.

    A name that two documents define is a problem of the second. Metadata among other documents is not a problem: it
    names a workflow, or gets a warning. `is_stored`: a workflow without a name is a problem.
    """
    is_metadata_alone = all(each.kind is DocumentKind.METADATA for each in documents)
    files: dict[tuple[MemberKind, str], str] = {}
    compared = []
    for text, document in zip(texts, documents, strict=True):
        problems, warnings = [*document.problems], [*document.warnings]
        if is_stored:
            problems = [*explain_nameless(document), *problems]
        if document.kind is DocumentKind.METADATA and not is_metadata_alone:
            action = read_action_file(text.text, text.file)
            if action is None or not any(action.is_of(each.file) for each in texts):
                warnings += problems
            problems = []
        problems += _doubles(document.members, files, text.file)
        placed = replace(
            document,
            problems=tuple(replace(each, file=text.file) for each in problems),
            warnings=tuple(replace(each, file=text.file) for each in warnings),
        )
        compared.append(placed)
    return compared


def _doubles(members: Iterable[Member], files: dict[tuple[MemberKind, str], str], file: str) -> Iterable[Problem]:
    for member in members:
        first = files.setdefault((member.kind, member.name), file)
        if member.name and first != file:
            message = f"the {member.kind.value} `{member.name}` is defined in {first} too"
            yield Problem(member.name, 1, 1, message, "give it another name, or leave one of the files out", SEMANTIC)


def gather(documents: Iterable[Document], *, strict: bool) -> tuple[ProblemList, ProblemList]:
    """Return the problems and the warnings of all documents; `strict`: all are problems."""
    problems, warnings = ProblemList("problems"), ProblemList("warnings")
    for document in documents:
        found, warned = document.problems[:PROBLEMS_MAX], document.warnings[:PROBLEMS_MAX]
        if strict:
            both = sorted((*found, *warned), key=lambda problem: (problem.line, problem.column))
            problems.add(both, sum(document.left_off))
        else:
            problems.add(found, document.left_off[0])
            warnings.add(warned, document.left_off[1])
    return problems, warnings
