"""What expressions call that there is not."""

from __future__ import annotations

import pytest

from dalsegno.expressions.inspection import find_unknown, known_names
from dalsegno.expressions.language import LANGUAGES, MISTRAL, ORQUESTA, Language
from dalsegno.expressions.unknown import FILTER, FUNCTION, JINJA, METHOD, TEST, YAQL
from dalsegno.expressions.yaql.registry import FUNCTIONS, METHODS


def found(text: str, language: str = "mistral") -> list[tuple[str, str]]:
    """Kinds and names."""
    return [(unknown.kind, unknown.name) for unknown in find_unknown(text, LANGUAGES[language])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<% nosuch($.a) %>", [(FUNCTION, "nosuch")]),
        ("a <% one() %> b <% two().three() %>", [(FUNCTION, "one"), (FUNCTION, "two"), (METHOD, "three")]),
        ("<% $.a.nosuch() + $.b?.other(1) %>", [(METHOD, "nosuch"), (METHOD, "other")]),
        (
            "<% $.l.where(isOdd($)).select({a => deep(x => inner())}) %>",
            [(FUNCTION, "isOdd"), (FUNCTION, "deep"), (FUNCTION, "inner")],
        ),
        ("<% nosuch() + nosuch() %>", [(FUNCTION, "nosuch")]),
        ("<% $.a.str() or toUpper($.a) %>", [(METHOD, "str"), (FUNCTION, "toUpper")]),
        ("<% $.s =~ nosuch() %>", [(FUNCTION, "nosuch")]),
        ("{{ _.a | nosuch }}", [(FILTER, "nosuch")]),
        ("{{ _.a is nosuch }}", [(TEST, "nosuch")]),
        ("{{ nosuch(_.a) }} {{ _.b }}", [(FUNCTION, "nosuch")]),
        ("{% for x in _.l %}{{ x | nosuch }}{% endfor %}", [(FILTER, "nosuch")]),
        (
            "{{ _.l | map('nosuch') | select('other') | rejectattr('a', 'third') | list }}",
            [(TEST, "third"), (TEST, "other"), (FILTER, "nosuch")],
        ),
    ],
)
def test_unknown(text: str, expected: list[tuple[str, str]]) -> None:
    """Each name is found once, however deep it stands, also where the library or the process apart evaluates."""
    assert sorted(found(text)) == sorted(expected)


@pytest.mark.parametrize(
    "text",
    [
        "no expression nosuch()",
        "<% regex('a').matches($.s) and $.l.toSet().len() > 0 %>",
        "<% let(x => 1) -> $x + switch(true => 1) + dict(a => 1).get(a) %>",
        "<% def(double, $ * 2) -> double(3) %>",
        "<% $.get(a, 1) + $.containsKey(b) + $.set(a => 1).len() %>",
        "<% now().format('%Y') + '{0}'.format(1) + random() %>",
        "<% task(t).result + execution().id + json_dump(env()) + uuid() + global(x) %>",
        "<% 1 + %>",
        "{{ 1 + }}",
        "<% nosuch( %>",
        "{{ range(3) | list }} {{ task('t') }} {{ _.a | json_dump }} {{ _.f() }} {{ namespace(a=1) }}",
        "{% macro m(x) %}{{ caller() }}{{ x() }}{% endmacro %}{% call m(1) %}{% endcall %}{% set f = _.a %}{{ f() }}",
        "{% for x in _.l recursive %}{{ loop(x) }}{% endfor %}",
        "{% raw %}{{ nosuch() }}{% endraw %}",
        "{{ _.l | map(attribute='nosuch') | map('upper') | select('odd') | selectattr('nosuch') | list }}",
    ],
)
def test_known(text: str) -> None:
    """What is compiled, what only the library has, what the text itself defines, and what cannot be read."""
    assert found(text) == []


def test_each_language_has_its_own() -> None:
    """A function of one language is unknown in the other, in both notations."""
    for text in ("<% succeeded() %>", "{{ succeeded() }}", "<% ctx(a) %>", "{{ ctx('a') }}"):
        assert (len(found(text)), found(text, "orquesta")) == (1, [])
    for text in ("<% env() %>", "{{ env() }}"):
        assert (found(text), len(found(text, "orquesta"))) == ([], 1)


@pytest.mark.parametrize("language", [MISTRAL, ORQUESTA], ids=["mistral", "orquesta"])
def test_known_names(language: Language) -> None:
    """One table has all names: compiled, of the language, of the library; and Jinja's by kind."""
    yaql = known_names(language, YAQL)
    assert {*FUNCTIONS, "regex", "now", "format", "task"} <= set(yaql[FUNCTION])
    assert {*METHODS, "matches", "toSet", "format"} <= set(yaql[METHOD])
    assert not any(name.startswith(("#", "*")) for name in (*yaql[FUNCTION], *yaql[METHOD]))
    jinja = known_names(language, JINJA)
    assert "upper" in jinja[FILTER]
    assert "defined" in jinja[TEST]
    assert {"range", "task"} <= set(jinja[FUNCTION])
