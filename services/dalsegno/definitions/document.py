"""A whole definition document: its language, its kind, and what it defines.

`read` is for a new text: it returns all problems, and the text is accepted only without any. `load_stored` is for an
accepted text: newer rules do not prevent it from running.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dalsegno.definitions.calls import Call, Signature
from dalsegno.definitions.load import DEFAULT_LIMITS, Limits, Source, load, load_with_anchors, may_have_anchors
from dalsegno.definitions.mistral.actions import compile_action
from dalsegno.definitions.mistral.compile import compile_workflow, read_description, read_tags
from dalsegno.definitions.mistral.syntax import Reader
from dalsegno.definitions.orquesta.compile import compile_workflow as compile_orquesta_workflow
from dalsegno.definitions.orquesta.expressions import forget_inspected
from dalsegno.definitions.orquesta.inspect import is_version_1
from dalsegno.definitions.orquesta.syntax import Reader as OrquestaReader
from dalsegno.definitions.problems import SEMANTIC, Problem, Problems, shown
from dalsegno.definitions.stackstorm import explain_metadata
from dalsegno.expressions.compile import forget_compiled
from dalsegno.workflow.model import AdHocAction, Parameter, Workflow
from dalsegno.workflow.value import byte_length


class MemberKind(Enum):
    """The kind of one part of a document."""

    WORKFLOW = "workflow"
    ACTION = "action"


class DocumentKind(Enum):
    """The kind of a document."""

    WORKFLOWS = "workflows"
    ACTIONS = "actions"
    WORKBOOK = "workbook"
    ORQUESTA = "orquesta"
    METADATA = "metadata"
    """Not a definition: another file of a StackStorm pack."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Member:
    """One workflow or ad-hoc action of a document, with its stored name."""

    kind: MemberKind
    name: str
    workflow: Workflow | None = None
    action: AdHocAction | None = None
    takes: Signature | None = None
    """Its input, for readers that have only an outline of the document."""

    @property
    def compiled(self) -> Workflow | AdHocAction:
        """Return the compiled workflow or action."""
        compiled = self.workflow if self.workflow is not None else self.action
        assert compiled is not None
        return compiled

    @property
    def description(self) -> str:
        return self.compiled.description

    @property
    def tags(self) -> tuple[str, ...]:
        return self.compiled.tags

    @property
    def input(self) -> tuple[Parameter, ...]:
        """Return the declared input parameters."""
        return self.compiled.input

    @property
    def defaults(self) -> dict[str, object]:
        """Return the defaults of a workflow's input as written, with expressions."""
        declared = self.workflow.spec.get("input") if self.workflow is not None else None
        items = declared if isinstance(declared, list) else []
        return {name: default for item in items if isinstance(item, dict) for name, default in item.items()}


@dataclass(frozen=True, slots=True)
class Document:
    """What a text defines. With problems, the members are incomplete, and must not be stored."""

    kind: DocumentKind
    language: str
    members: tuple[Member, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    """Probable mistakes that do not prevent storing."""
    name: str = ""
    """The workbook's name; "" for other kinds."""
    left_off: tuple[int, int] = (0, 0)
    """The number of problems and warnings that are not listed; the last listed one has it, too."""
    calls: tuple[Call, ...] = ()
    """The actions and workflows that it names, if requested."""

    def member(self, name: str) -> Member | None:
        """Return the member of this name, a workflow before an action."""
        named = [member for member in self.members if member.name == name]
        return min(named, key=lambda member: member.kind is MemberKind.ACTION, default=None)


def forget_expressions() -> None:
    """Clear the caches of single expressions: compiled workflows keep their own, other documents parse them again."""
    forget_compiled()
    forget_inspected()


_WORKBOOK_KEYS = dict.fromkeys(("name", "version", "description", "tags", "actions", "workflows"))
_MEMBER_NAME = re.compile(r"^(?!version$)[\w-]+$")
_ACTION_KEYS = frozenset(("base", "base-input"))


def read(text: str, limits: Limits = DEFAULT_LIMITS, name: str = "", *, with_calls: bool = False) -> Document:
    """Read and check a definition of any language and kind. Never raises: every error is a problem.

    `name` is for Orquesta's documents, which need not contain one; a workflow without a name can be checked but not
    stored (`explain_nameless`). `with_calls`: with the actions and workflows that it names.
    """
    source, problems = _load(text, limits)
    if not source.complete:
        return Document(DocumentKind.UNKNOWN, "", problems=problems.listed(), left_off=problems.left_off)
    kind = _kind_of(source.data)
    reader, other = Reader(source, problems), OrquestaReader(source, problems)
    book = ""
    members: tuple[Member, ...] = ()
    if kind is DocumentKind.METADATA:
        reader.fault((), *(explain_metadata(source.data) or ()))
    elif kind is DocumentKind.UNKNOWN:
        _explain_unknown(reader, source.data)
    elif kind is DocumentKind.ORQUESTA:
        workflow = compile_orquesta_workflow(other, source.data, name)
        members = (Member(MemberKind.WORKFLOW, workflow.name, workflow=workflow),)
    elif kind is DocumentKind.WORKBOOK:
        book, members = _read_workbook(reader, source.data)
    else:
        members = _read_list(reader, source, kind)
    workflows = frozenset(member.name for member in members if member.kind is MemberKind.WORKFLOW)
    workflows -= {member.name for member in members if member.kind is MemberKind.ACTION}
    for each in (reader, other):
        each.check_reverts(workflows, book)
    language = {DocumentKind.ORQUESTA: "orquesta", DocumentKind.METADATA: ""}.get(kind, "mistral")
    return Document(
        kind,
        language,
        members,
        problems.listed(),
        problems.warnings(),
        book,
        problems.left_off,
        calls=(*reader.calls, *other.calls) if with_calls else (),
    )


def explain_nameless(document: Document) -> tuple[Problem, ...]:
    """Return the problem of storing an Orquesta document whose workflow has no name."""
    if document.kind is not DocumentKind.ORQUESTA or all(member.name for member in document.members):
        return ()
    hint = "give one: `--name pack.name` on the command line, `name` in the request, or `name: pack.name` at the top"
    return (Problem("name", 1, 1, "the workflow has no name to be stored by", hint, SEMANTIC),)


def signature_of(member: Member) -> Signature:
    """Return the signature of a member. An Orquesta workflow ignores undeclared input, and requires none."""
    required = frozenset(each.name for each in member.input if each.required)
    return Signature(
        required,
        frozenset(each.name for each in member.input) - required,
        is_open=member.workflow is not None and member.workflow.language == "orquesta",
    )


def _load(text: str, limits: Limits) -> tuple[Source, Problems]:
    """Return the data of a text. Orquesta's YAML has anchors, Mistral's has none; only the data shows which it is."""
    problems = Problems()
    if byte_length(text) <= limits.bytes_max and may_have_anchors(text):
        source = load_with_anchors(text, problems, limits)
        if isinstance(source.data, dict) and _is_orquesta(source.data):
            return source, problems
        problems = Problems()
    return load(text, problems, limits), problems


def load_stored(text: str, name: str, kind: MemberKind = MemberKind.WORKFLOW) -> Member:
    """Return one member of a stored text, by its stored name. Raises KeyError without it.

    Problems are ignored: a later version may find more, but a stored text must always load.
    """
    limits = Limits(bytes_max=2**31, keys_max=2**31, values_max=2**31)
    for member in read(text, limits, name=name).members:
        if member.name == name and member.kind is kind:
            return member
    raise KeyError(name)


def _kind_of(data: Any) -> DocumentKind:
    if not isinstance(data, dict) or not data:
        return DocumentKind.UNKNOWN
    if explain_metadata(data) is not None:
        return DocumentKind.METADATA
    if _is_orquesta(data):
        return DocumentKind.ORQUESTA
    if isinstance(data.get("tasks"), dict | list) and not _is_workflow(data["tasks"]):
        return DocumentKind.UNKNOWN
    has_name = "name" in data and not isinstance(data["name"], dict)
    sections = [data[key] for key in ("workflows", "actions") if key in data]
    if has_name or any(not _is_workflow(section) for section in sections):
        return DocumentKind.WORKBOOK
    bodies = [body for key, body in data.items() if key != "version" and isinstance(body, dict)]
    if any(not body.keys().isdisjoint(_ACTION_KEYS) and "tasks" not in body for body in bodies):
        return DocumentKind.ACTIONS
    return DocumentKind.WORKFLOWS


def _is_orquesta(data: dict[str, Any]) -> bool:
    """Return whether the document is an Orquesta workflow: `tasks` at the top, and not Mistral's version."""
    if "tasks" in data:
        return "version" not in data or not (_is_version_2(data["version"]) or _is_workflow(data["tasks"]))
    is_mistral = "workflows" in data or "actions" in data or any(map(_is_workflow, data.values()))
    return is_version_1(data.get("version")) and not is_mistral


def _explain_unknown(reader: Reader, data: object) -> None:
    if isinstance(data, dict) and data:
        reader.fault(
            ("tasks",),
            "`tasks` stands within a workflow",
            "put it below the workflow's name; Orquesta's are `version: 1.0`",
        )
    elif data is None or data == {}:
        reader.fault((), "the definition is empty")
    else:
        reader.fault((), f"a definition is a mapping of names to workflows or actions, not {shown(data)}")


def _is_workflow(section: object) -> bool:
    """Return whether the value of a section's key is a workflow or an action with this name."""
    return isinstance(section, dict) and (
        isinstance(section.get("tasks"), dict) or isinstance(section.get("base"), str)
    )


def _is_version_2(version: object) -> bool:
    """Return whether this is the version of Mistral's language: 2.0, as a number, or as text, also `v2.0`."""
    try:
        return not isinstance(version, bool) and float(str(version).removeprefix("v")) == 2
    except (ValueError, OverflowError):
        return False


def _check_version(reader: Reader, data: dict[str, Any]) -> None:
    """Check the version of a document in Mistral's language."""
    if "version" not in data:
        reader.fault((), "`version` is missing", "write `version: '2.0'` at the top")
    elif not _is_version_2(data["version"]):
        reader.fault(("version",), f"the version {shown(data['version'])} is not known", "write `version: '2.0'`")


def _read_list(reader: Reader, source: Source, kind: DocumentKind) -> tuple[Member, ...]:
    """Read workflows or ad-hoc actions: every key but `version` is one."""
    data = source.data
    _check_version(reader, data)
    names = [key for key in data if key != "version"]
    if not names:
        reader.fault((), "defines nothing", "add a workflow, under its name")
    for key in source.odd_keys.get(id(data), ()):
        reader.fault((key,), f"the key is read by YAML as {key}, not as text", "put it in quotes")
    return tuple(_read_member(reader, kind is DocumentKind.ACTIONS, name, data[name], (name,)) for name in names)


def _read_member(
    reader: Reader, is_action: bool, name: str, data: Any, path: tuple[str, ...], workbook: str | None = None
) -> Member:
    stored_name = f"{workbook}.{name}" if workbook else name
    if is_action:
        action = compile_action(reader, name, data, path, stored_name=stored_name, workbook=workbook)
        return Member(MemberKind.ACTION, stored_name, action=action)
    workflow = compile_workflow(reader, name, data, path, stored_name=stored_name, workbook=workbook)
    return Member(MemberKind.WORKFLOW, stored_name, workflow=workflow)


def _read_workbook(reader: Reader, data: dict[str, Any]) -> tuple[str, tuple[Member, ...]]:
    reader.known_keys(data, _WORKBOOK_KEYS, (), "workbook")
    _check_version(reader, data)
    if "name" not in data:
        reader.fault((), "a workbook needs a `name`", reader.guess("name", data.keys() - _WORKBOOK_KEYS.keys()))
    name = (reader.text(data["name"], ("name",)) or "") if "name" in data else ""
    read_description(reader, data, ())
    read_tags(reader, data, ())
    members: list[Member] = []
    for section in ("actions", "workflows"):
        if section not in data:
            continue
        bodies = reader.mapping(data[section], (section,)) or {}
        for key, body in bodies.items():
            if key == "version":
                if not _is_version_2(body):
                    reader.fault((section, key), f"the version {shown(body)} is not known", "leave it away")
                continue
            if not _MEMBER_NAME.match(key):
                reader.fault((section, key), "a name in a workbook has letters, digits, `_` and `-` only")
            members.append(_read_member(reader, section == "actions", key, body, (section, key), name))
    return name, tuple(members)
