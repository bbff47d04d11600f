"""Random YAQL: most of it well typed, so that there is a value to compare, and some of it not."""

from __future__ import annotations

import re

from hypothesis import strategies as st

Texts = dict[str, list[str]]
"""Pieces of expressions by what they give."""

VALUES: dict[str, object] = {
    "i": 3,
    "z": 0,
    "f": 2.5,
    "s": "a,b,c",
    "e": "",
    "t": True,
    "u": None,
    "l": [3, 1, 2],
    "m": ["b", "a", "b"],
    "o": [{"x": 1, "y": "p"}, {"x": 2, "y": "q"}, {"x": 2, "y": "r"}],
    "n": [[1, 2], [3], []],
    "d": {"k": "v", "x": 1, "inner": {"y": [1, {"z": 2}]}},
    "v": [],
    "w": {},
}

ATOMS: dict[str, list[str]] = {
    "number": ["0", "1", "2", "7", "2.5", "-3", "$.i", "$.z", "$.f", "$.d.x", "$.l[0]", "$.o[1].x"],
    "string": ["''", "'a'", "'a,b'", "' x '", "a", "$.s", "$.e", "$.d.k", "`b`", '"c"', "$.m[0]"],
    "bool": ["true", "false", "$.t"],
    "list": ["[]", "[1, 2]", "$.l", "$.m", "$.n", "$.v", "range(3)", "[null, 1, a]"],
    "numbers": ["$.l", "[1, 2]", "range(4)", "$.o.x", "[2.5, 1]"],
    "dicts": ["$.o", "[{x => 1, y => a}]", "[$.d, {x => null}]"],
    "dict": ["{}", "{k => 1}", "{x => 1, y => [2]}", "$.d", "$.d.inner", "$.w", "$.o[0]", "env()", "$"],
    "any": ["null", "$.u", "$.missing", "$nothing", "$2", "$", "task().result", "unknown()"],
    "name": ["k", "x", "y", "inner", "missing", "a"],
    "test": ["$ > 1", "$ = 2", "$.x = 2", "$.x > 1", "$", "true", "not $", "$.len() > 1", "isString($)"],
    "body": ["$", "$.x", "$.y", "$ + $", "$.x + 1", "str($)", "$.len()", "[$, $]", "{k => $}", "-$", "$.get(x)"],
    "fold": ["$1 + $2", "$1 - $2", "$1 * $2", "[$1, $2]", "max($1, $2)", "$2"],
}

FORMS: dict[str, str] = {
    "number": """<number> + <number>; <number> - <number>; <number> * <number>; <number> / <number>; <string>.len();
        <number> mod <number>; -<number>; +<number>; <list>.len(); <dict>.len(); len(<list>); <numbers>.sum();
        <numbers>.max(); <numbers>.min(); <numbers>.sum(<number>); max(<number>, <number>); min(<number>, <number>);
        abs(<number>); sign(<number>); round(<number>); round(<number>, 1); int(<number>); int(<string>);
        float(<number>); <list>.count(); <string>.indexOf(<string>); <list>.indexOf(<any>); <dicts>.sum();
        <numbers>.aggregate(<fold>); <numbers>.reduce(<fold>, <number>); <list>.indexWhere(<test>); pow(<number>, 2);
        <list>.lastIndexWhere(<test>); <string>.lastIndexOf(<string>); bitwiseAnd(<number>, <number>);
        shiftBitsLeft(<number>, 3); bitwiseNot(<number>); <list>.lastIndexOf(<any>); len(<dict>.keys());
        <numbers>.first(); <numbers>.last(); <numbers>.first(<number>); selectCase(<bool>, <bool>);
        <string>.indexOf(<string>, <number>); <string>.indexOf(<string>, <number>, <number>)""",
    "string": """<string> + <string>; <string> * 2; 2 * <string>; str(<any>); str($.l); str(<dict>); str(<number>);
        <string>.toUpper(); <string>.toLower(); <string>.trim(); <string>.trim(<string>); <string>.trimLeft();
        <string>.trimRight(); <string>.norm(); <string>.replace(<string>, <string>); concat(<string>, <string>);
        <string>.substring(<number>); <string>.substring(<number>, <number>); <list>.join(<string>);
        <string>.join(<list>); <string>.replace(<dict>); hex(<number>); <string>.replace(<string>, <string>, 1);
        '{} {}'.format(<any>, <list>); '{0:>7}|{nAme}'.format(<string>, nAme => <any>); format('{0:08.2f}', <number>);
        <string>.format(<any>)""",
    "bool": """<number> < <number>; <number> >= <number>; <string> > <string>; <any> = <any>; <list> = <list>;
        <any> != <any>; <number> = <number>; <string> <= <string>; null < <any>; <any> >= null; not <any>;
        <any> in <list>; <string> in <string>; <bool> and <any>; <bool> or <any>; <list>.any(); <list>.any(<test>);
        <list>.all(<test>); all(<list>); <dict>.containsKey(<name>); <dict>.containsValue(<any>);
        <list>.contains(<any>); <string>.startsWith(<string>); <string>.endsWith(<string>, <string>); isList(<any>);
        isDict(<any>); isString(<any>); isNumber(<any>); isInteger(<any>); isBoolean(<any>); isIterable(<any>);
        bool(<any>); isEmpty(<string>); <string>.isEmpty(); isSet(<any>); <name> in <dict>.keys()""",
    "list": """[<any>]; [<any>, <any>]; <list> + <list>; <list> * 2; <list>.where(<test>); <list>.select(<body>);
        <dicts>.where(<test>).select(<body>); <list>.filter(<test>); <list>.map(<body>); <list>.skip(1);
        <list>.limit(<number>); <list>.take(2); <list>.toList(); list(<any>, <list>); <list>.append(<any>);
        <list>.distinct(); <list>.distinct(<body>); <list>.reverse(); <list>.flatten(); <numbers>.orderBy($);
        <dicts>.orderBy(<body>); <dicts>.orderByDescending($.x).thenBy($.y); <string>.split(<string>);
        <string>.split(); <string>.toCharArray(); <dict>.keys(); <dict>.values(); <list>.enumerate();
        <list>.concat(<list>);
        <list>.insert(<number>, <any>); <list>.delete(<number>); <list>.replace(<number>, <any>); range(<number>);
        range(<number>, <number>); <list>.takeWhile(<test>); <list>.skipWhile(<test>); <list>.selectMany(<body>);
        <list>.zip(<list>); <list>.zipLongest(<list>); <list>.slice(2); <list>.splitAt(<number>);
        <list>.defaultIfEmpty(<list>); <list>.groupBy(<body>).select($[0]);
        <dicts>.groupBy($.x, <body>).select($[1].first()); <dicts>.y; <list>.x;
        <numbers>.accumulate(<fold>); <list>.insertMany(<number>, <list>); <any>.repeat(2); <list>.delete(0, 2);
        <dict>.items().toList(); <dict>.items(); <string>.split(<string>, 1); <string>.rightSplit(<string>, 1);
        <list>.join(<list>, $1 = $2, [$1, $2]); concat(<list>, <list>)""",
    "numbers": "<numbers>.where(<test>); <numbers>.orderBy(-$); <numbers> + <numbers>; [<number>, <number>]",
    "dicts": "<dicts>.where(<test>); <dicts>.select({x => $.x, y => <any>}); [<dict>, <dict>]; <dicts> + <dicts>",
    "dict": """{<name> => <any>}; {k => <any>, x => <number>}; <dict> + <dict>; <dict>.set(<name>, <any>);
        <dict>.set(<dict>); <dict>.mergeWith(<dict>); <dict>.delete(<name>, <name>); <dict>.deleteAll([<name>]);
        dict(<name> => <any>); <dicts>.toDict($.y, $.x); <dicts>.toDict($.x); dict(<list>); <dict>.set(k => <any>)""",
    "any": """<number>; <string>; <bool>; <list>; <dict>; <dict>.<name>; <dict>?.<name>; <dict>.get(<name>);
        <dict>.get(<name>, <any>); <dict>[<name>]; <dict>[<name>, <any>]; <list>[<number>]; <list>.first();
        <list>.last(<any>); <list>.single(); coalesce(<any>, <any>); switch(<bool> => <any>, true => <any>);
        let(x => <any>) -> [$x, <any>]; let(x => <number>) -> $x + <number>; <any>.switchCase(<any>, <any>);
        <any> and <any>; <any> or <any>; switch(<bool> => <any>); <any>.<name>; <any>?.<name>""",
}
SPLIT = {kind: [form.strip() for form in forms.split(";")] for kind, forms in FORMS.items()}


def _called(atom: str, place: int) -> str:
    """The atom as Orquesta has it."""
    atom = atom.replace("env()", "item()").replace("task().result", "result()")
    atom = re.sub(r"^\$\.(\w+)", r"ctx(\1)" if place % 2 else r"ctx().\1", atom)
    return "ctx()" if atom == "$" else atom


HOLE = re.compile(r"<(\w+)>")
ORQUESTA_FORMS: dict[str, str] = {
    "number": """version_compare(<version>, <version>); item().x; item(<name>)""",
    "string": """to_json_string(<any>); to_json_string(<any>, sort_keys => <bool>, indent => <number>);
        json_escape(<any>); to_yaml_string(<any>); yaml_dump(<dict>, allow_unicode => <bool>);
        basename(<string>); dirname(<string>); task_status(<name>); task_status(<name>, route => <number>);
        to_human_time_from_seconds(<number>); version_bump_major(<version>); version_bump_minor(<version>);
        version_bump_patch(<version>); use_none(<any>); version_strip_patch(<version>); task(<name>).task_name;
        to_json_string(<list>, separators => [',', s])""",
    "bool": """succeeded(); failed(); completed(); version_more_than(<version>, <version>); version_less_than(<version>,
        <version>); version_equal(<version>, <version>); version_match(<version>, '>=' + <version>);
        version_match(<version>, <string>); <name> in ctx().keys()""",
    "list": """zip(<list>, <list>); zip(<list>, <list>, <list>, pad => <any>); zip(<any>); zip(<any>, <any>)""",
    "dict": """json(<dict>); item(); result(); task(<name>); task(route => <number>)""",
    "any": """json_parse(<string>); json_parse(to_json_string(<any>)); from_yaml_string(<string>); json(<any>);
        ctx(<name>); from_yaml_string(to_yaml_string(<any>)); st2kv(<string>); st2kv(<string>, default => <any>);
        ctx()[<name>]; st2kv(<string>, decrypt => <bool>, default => <any>); ctx().get(<name>, <any>)""",
}
ORQUESTA_SPLIT = {
    kind: [*forms, *(" ".join(form.split()) for form in ORQUESTA_FORMS.get(kind, "").split(";") if form)]
    for kind, forms in SPLIT.items()
}
INNER = ("test", "body", "fold")
"""Kinds in which `$` is an item."""
ORQUESTA_ATOMS = {
    kind: atoms if kind in INNER else [_called(atom, place) for place, atom in enumerate(atoms)]
    for kind, atoms in ATOMS.items()
} | {"version": ["'1.2.3'", "'1.2.3-a.1'", "'2.0.0+b'", "'1.2'", "$.s"]}
TYPED = ["number", "string", "bool", "list", "dict", "any"]


@st.composite
def yaql_texts(draw: st.DrawFn, atoms: Texts = ATOMS, forms_of: Texts = SPLIT) -> str:
    """An expression of up to three levels; one hole in twelve is filled with something of another kind."""

    def write(kind: str, depth: int) -> str:
        if kind in TYPED and draw(st.integers(0, 11)) == 0:
            kind = draw(st.sampled_from(TYPED))
        forms = forms_of.get(kind)
        if forms is None or depth == 0:
            return draw(st.sampled_from(atoms[kind]))
        form = draw(st.sampled_from(forms))
        return HOLE.sub(
            lambda hole: _bracketed(write(hole[1], depth - draw(st.integers(1, 2)) if depth > 1 else 0)), form
        )

    return write(draw(st.sampled_from(TYPED)), draw(st.integers(1, 3)))


def _bracketed(text: str) -> str:
    return text if re.fullmatch(r"(ctx\(\w*\))?[\w$.]*", text) else f"({text})"
