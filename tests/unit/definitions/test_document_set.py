"""Several documents at once: StackStorm's packs, names that stand twice, and findings that are counted."""

from __future__ import annotations

import pytest

from dalsegno.definitions.document import Document, DocumentKind, read
from dalsegno.definitions.document_set import Text, compare, gather, name_by_metadata

SAIL = "version: 1.0\ntasks: {t: {action: core.noop}}"
META = "---\nname: sail\nrunner_type: orquesta\nentry_point: workflows/sail.yaml\nenabled: true\n"


def read_all(*texts: Text, is_stored: bool = True) -> list[Document]:
    """The documents, compared with each other."""
    named = name_by_metadata(texts)
    return compare(named, [read(each.text, name=each.name) for each in named], is_stored=is_stored)


def test_metadata_names_the_workflow_of_its_entry_point() -> None:
    """A pack's folder can be handed in as it is: the workflow is called pack.action, and the metadata is no problem."""
    meta, sail = read_all(
        Text(META, file="packs/harbour/actions/sail.yaml"),
        Text(SAIL, file="packs/harbour/actions/workflows/sail.yaml"),
    )
    assert (meta.kind, meta.problems, meta.warnings) == (DocumentKind.METADATA, (), ())
    assert [each.name for each in sail.members] == ["harbour.sail"]
    assert not sail.problems


def test_the_pack_that_metadata_names_goes_before_its_folder() -> None:
    """As StackStorm has it."""
    _, sail = read_all(
        Text(f"{META}pack: sea\n", file="x/actions/sail.yaml"), Text(SAIL, file="x/actions/workflows/sail.yaml")
    )
    assert [each.name for each in sail.members] == ["sea.sail"]


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        (
            META,
            "StackStorm's metadata of the action `sail`",
            "workflows/sail.yaml: give that file, with --name pack.sail",
        ),
        (f"{META}pack: sea\n", "StackStorm's metadata of the action `sail`", "--name sea.sail"),
        (
            "{name: x, runner_type: python-script, entry_point: x.py}",
            "of the action `x`",
            "its runner is python-script",
        ),
        ("{name: x, runner_type: local-shell-cmd}", "of the action `x`", "its runner is local-shell-cmd"),
        ("{ref: sea, name: sea, version: 1.0, author: A, email: a@example.com}", "metadata of a pack", "leave it out"),
        ("{name: r, pack: sea, trigger: {type: t}, action: {ref: a.b}}", "metadata of a rule", "leave it out"),
        ("{class_name: S, entry_point: s.py, trigger_types: []}", "metadata of a sensor", "leave it out"),
        ("{name: a, action_ref: a.b, formats: [x]}", "metadata of an alias", "leave it out"),
    ],
)
def test_a_metadata_file_alone_is_said_to_be_one(text: str, said: str, hint: str) -> None:
    """It is a problem there, for it defines nothing; among others it is a warning, with its file."""
    (document,) = read_all(Text(text))
    (problem,) = document.problems
    assert said in problem.message
    assert hint in problem.hint
    among, _ = read_all(Text(text, file="meta.yaml"), Text(SAIL, "a.b", "sail.yaml"))
    assert [(each.file, each.message) for each in among.warnings] == [("meta.yaml", problem.message)]
    assert not among.problems


@pytest.mark.parametrize(
    "text",
    [
        "version: '2.0'\nname: book\nworkflows: {w: {tasks: {t: {action: std.noop}}}}",
        "version: '2.0'\nrunner_type: {tasks: {t: {action: std.noop}}}",
        "version: 1.0\nrunner_type: orquesta\ntasks: {t: {action: core.noop}}",
    ],
)
def test_what_is_a_definition_is_no_metadata(text: str) -> None:
    """With any names."""
    assert read(text).kind is not DocumentKind.METADATA


def test_a_name_in_two_documents_is_a_problem_of_the_second() -> None:
    """Which would be stored as the newest would be chance."""
    text = "version: '2.0'\nw: {tasks: {t: {action: std.noop}}}"
    first, second = read_all(Text(text, file="a.yaml"), Text(text, file="b.yaml"))
    assert not first.problems
    (problem,) = second.problems
    assert (problem.file, problem.message) == ("b.yaml", "the workflow `w` is defined in a.yaml too")


def test_a_nameless_workflow_can_be_checked_and_not_be_stored() -> None:
    """Two of them are not two of one name."""
    texts = (Text(SAIL, file="a.yaml"), Text(SAIL, file="b.yaml"))
    assert [len(each.problems) for each in read_all(*texts)] == [1, 1]
    assert [len(each.problems) for each in read_all(*texts, is_stored=False)] == [0, 0]


def test_findings_of_all_documents_are_listed_up_to_a_number_and_counted() -> None:
    """The last one says how many more there are."""
    tasks = "\n".join(f"    t{number}: {{action: std.noop, on-success: [nowhere{number}]}}" for number in range(300))
    text = f"version: '2.0'\n{{name}}:\n  tasks:\n{tasks}"
    documents = read_all(*(Text(text.replace("{name}", name), file=f"{name}.yaml") for name in ("a", "b")))
    problems, warnings = gather(documents, strict=False)
    assert (len(problems.listed), problems.further, len(warnings.listed)) == (500, 100, 0)
    assert {each.file for each in problems.listed} == {"a.yaml", "b.yaml"}
    assert problems.counted[-1].message == "and 100 further problems"
