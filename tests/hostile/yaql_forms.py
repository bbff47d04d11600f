"""YAQL over all its functions, in both languages."""

from __future__ import annotations

import re

from tests.hostile.forms import Grammar

INNER = ("test", "body", "numtest", "numbody", "rowtest", "rowbody", "strbody", "fold", "anyfold")
"""Kinds in which `$` is an item."""
HEADS = ("number", "string", "bool", "list", "dict")

ATOMS = {
    "number": "0; 1; 7; 2.5; -3; $.i; $.f; $.d.x; $.l[0]; $.big; $.wide_number; 100000; 2305843009213693951; 60",
    "string": "''; 'a'; 'a,b'; ' x '; $.s; $.d.k; $.m[0]; $.text; $.unlike; $.odd; 'ab'; '\\u00df'; 'zz'",
    "bool": "true; false; $.t; $.i > 2",
    "list": "[]; [1, 2]; $.l; $.m; $.n; $.o; range(3); [null, 1, a]; $.collide; $.long; $.rows; range(100000); $.deep; "
    "$.words",
    "numbers": "$.l; [1, 2]; range(4); $.o.x; [2.5, 1]; $.collide; $.long; range(1000000)",
    "strings": "$.m; [a, b]; $.words; ['', 'a,b']; $.o.y",
    "lists": "$.n; [[1], [2]]; [[1, a], [2, b]]; $.deep",
    "dicts": "$.o; [{x => 1, y => a}]; $.rows",
    "dict": "{}; {k => 1}; {x => 1, y => [2]}; $.d; $.d.inner; $.w; $.table; {1 => 2}; env(); task(t1)",
    "name": "k; x; y; inner; k7",
    "test": "$ != 1; $ = 2; true; isString($); not isNumber($); $ in [1, 2, a]; $ = $",
    "body": "$; [$, $]; {k => $}; str($); [$]; isList($); 1",
    "numtest": "$ > 1; $ < 3; $ mod 2 = 0; $ >= 0",
    "numbody": "$ * 2; $ + 1; -$; $ mod 7; str($); $ * $",
    "rowtest": "$.x = 2; $.x > 1; $.y != a; $.y.len() > 1",
    "rowbody": "$.x; $.y; $.x + 1; {a => $.x}; $.get(x); $.keys(); $.set(z, 1)",
    "strbody": "$.toUpper(); $ + $; $.len(); $ * 2; $.split(' '); $.replace(w, ww); $.trim(); $.indexOf(d)",
    "fold": "$1 + $2; $1 - $2; $1 * $2; max($1, $2); min($1, $2); $2",
    "anyfold": "[$1, $2]; $2; [$1]; {a => $1}; [$1].select($); [$1, $1]",
    "version": "'1.2.3'; '2.0.0-a.1'; $.version",
    "json": "$.j; '[1, 2]'; '{\"a\": null}'; json_dump($.d); '[' * 400 + ']' * 400; '1e999'; '\"\\\\u0000\"'",
    "yaml": "'a: [1, b]'; '{x: 1}'; yaml_dump($.d); 'a: &a [1]\\nb: [*a, *a]'; '0x' + 'f' * 4000; '\"\\\\0\"'",
    "any": "null; $.u; $.i; $.s; $.l; $.d; [1]; 'a'; 2.5; $.collide; $.text; $.table; $.deep",
}

FORMS = {
    "number": """<number> + <number>; <number> - <number>; <number> * <number>; <number> / (<number> + 1);
        <string>.len(); <number> mod 7; -<number>; +<number>; <list>.toList().len(); <dict>.len(); <numbers>.sum();
        <numbers>.max(); <numbers>.min(); <numbers>.sum(<number>); max(<number>, <number>); min(<number>, <number>);
        abs(<number>); sign(<number>); round(<number>); round(<number>, 1); int(<number>); int(str(<number>));
        float(1); <list>.count(); <string>.indexOf(<string>); <list>.indexOf(<any>); <string>.lastIndexOf(<string>);
        <numbers>.aggregate(<fold>); <numbers>.reduce(<fold>, <number>); <numbers>.indexWhere(<numtest>);
        <numbers>.lastIndexWhere(<numtest>); pow(<number>, 2); pow(2, <number>); pow(<number>, 3, 7);
        pow(<number>, <number>, <number>); bitwiseAnd(<number>, <number>); bitwiseOr(<number>, <number>);
        bitwiseXor(<number>, <number>); bitwiseNot(<number>); shiftBitsLeft(<number>, <number>);
        shiftBitsRight(<number>, <number>); <list>.lastIndexOf(<any>); len(<list>.toList()); <numbers>.first(<number>);
        <numbers>.last(<number>); selectCase(<bool>, <bool>); <strings>.select(<strbody>).count();
        <list>.aggregate(<anyfold>, <any>).len(); range(<number>).len(); <list>.distinct().count();
        <numbers>.distinct().sum(); <list>.groupBy(<body>).count(); random(0, <number>) * 0; uuid().len();
        callback_url().len();
        <numbers>.accumulate(<fold>).last(); <string>.indexOf(<string>, 1); <string>.lastIndexOf(<string>, 0, 5);
        coalesce(null, <number>); switch(<bool> => <number>, true => 1); let(x => <number>) -> $x + $x;
        1.switchCase(<number>, <number>)""",
    "string": """<string> + <string>; <string> * 2; 3 * <string>; <string> * <number>; str(<any>); str(<list>);
        str(<number>); <string>.toUpper(); <string>.toLower(); <string>.trim(); <string>.trim(<string>);
        <string>.trimLeft(<string>); <string>.trimRight(); norm(<string> + a); <string>.replace(<string>, <string>);
        concat(<string>, <string>); <string>.substring(1); <string>.substring(<number>, <number>);
        <strings>.join(<string>); <string>.join(<strings>); <string>.replace({a => b, b => <string>}); hex(7);
        hex(int(<number>)); <string>.replace(<string>, <string>, 1); '{} {}'.format(<any>, <any>);
        '{0:>7}|{nAme}'.format(<string>, nAme => <any>); format('{0:,}', <number>); json_dump(<any>); yaml_dump(<any>);
        <list>.join(<string>); <strings>.first(<string>); <strings>.select(<strbody>).join(','); <string>.norm() + a""",
    "bool": """<number> < <number>; <number> >= <number>; <string> > <string>; <any> = <any>; <list> = <list>;
        <any> != <any>; <number> = <number>; <string> <= <string>; null < <any>; <number> >= null; not <any>;
        <any> in <list>; <string> in <string>; <bool> and <bool>; <bool> or <bool>; <list>.any(); <list>.any(<test>);
        <list>.all(<test>); all(<list>); any(<list>); <dict>.containsKey(<name>); <dict>.containsValue(<any>);
        <list>.contains(<any>); <string>.startsWith(<string>); <string>.endsWith(<string>, <string>); isList(<any>);
        isDict(<any>); isString(<any>); isNumber(<any>); isInteger(<any>); isBoolean(<any>); isIterable(<any>);
        bool(<any>); isEmpty(<string>); <string>.isEmpty(); isSet(<any>); <name> in <dict>.keys();
        <dict>.keys() < <dict>.keys(); <dict> = <dict>; <numbers>.distinct() = <numbers>""",
    "list": """[<any>]; [<any>, <any>]; <list>.toList() + <list>.toList(); <list>.toList() * 2; <list>.where(<test>);
        <list>.select(<body>); <dicts>.where(<rowtest>).select(<rowbody>); <list>.filter(<test>); <list>.map(<body>);
        <list>.skip(1); <list>.limit(5); <list>.take(2); <list>.toList(); list(<any>, <list>); <list>.append(<any>);
        append(<list>, 1); <list>.distinct(); distinct(<list>); <list>.distinct(<body>); <list>.reverse();
        <list>.flatten(); <numbers>.orderBy($); <numbers>.orderByDescending($); <dicts>.orderBy($.x);
        <dicts>.orderByDescending($.x).thenBy($.y); <dicts>.orderBy($.y).thenByDescending($.x);
        <string>.split(<string> + ','); <string>.split(); <string>.toCharArray(); <dict>.keys(); <dict>.values();
        <list>.enumerate(); enumerate(<list>, 3); <list>.concat(<list>); concat(<list>, <list>);
        <list>.insert(1, <any>); <list>.delete(1); <list>.replace(1, <any>); range(<number>); range(<number>, 9);
        range(0, <number>, 3); <list>.takeWhile(<test>); <list>.skipWhile(<test>); <lists>.selectMany($);
        <list>.selectMany([$, $]); <list>.zip(<list>); <list>.zipLongest(<list>); <list>.slice(2); <list>.splitAt(1);
        <list>.defaultIfEmpty(<list>); <list>.groupBy(<body>).select($[0]); <dicts>.groupBy($.x, $.y);
        <dicts>.y; <lists>.flatten(); <numbers>.accumulate(<fold>); <list>.insertMany(1, <list>); <any>.repeat(2);
        <any>.repeat().limit(5); <any>.repeat(<number>); <list>.delete(0, 2); <dict>.items(); <string>.split(',', 1);
        <string>.rightSplit(<string> + ',', 1); <list>.join(<list>, $1 = $2, [$1, $2]); <list>.where(<test>).limit(3);
        <strings>.select(<strbody>); <numbers>.where(<numtest>).select(<numbody>); let(x => <list>) -> [$x, $x];
        range(<number>).aggregate(<anyfold>, <any>); [<list>.first(null), <list>.last(null)]; tasks(e, true);
        <numbers>.aggregate($1.append($2), []); <numbers>.aggregate($1.select($), [1]); executions(id => x);
        [<any>, <any>].single().repeat(1); <list>.select(<body>).select(<body>).where(<test>)""",
    "numbers": "<numbers>.where(<numtest>); <numbers>.orderBy(-$); <numbers> + <numbers>; [<number>, <number>]; "
    "<numbers>.select($ + 1); <numbers>.limit(9); <numbers>.concat(<numbers>)",
    "strings": "<strings>.where(isString($)); [<string>, <string>]; <string>.split(','); <strings>.distinct(); "
    "<strings>.orderBy($); <strings>.limit(4); <strings>.toList() * 3",
    "lists": "[<list>, <list>]; <list>.slice(3); <list>.zip(<list>); <lists>.where(true); <list>.splitAt(2)",
    "dicts": "<dicts>.where(<rowtest>); <dicts>.select({x => $.x, y => $.y}); <dicts>.limit(5); <dicts>.orderBy($.x)",
    "dict": """{<name> => <any>}; {k => <any>, x => <number>}; <dict> + <dict>; <dict>.set(<name>, <any>);
        <dict>.set(<dict>); <dict>.mergeWith(<dict>); <dict>.delete(<name>, <name>); <dict>.deleteAll([<name>]);
        dict(<name> => <any>); <dicts>.toDict($.y, $.x); <dicts>.toDict($.x); dict([[a, <any>], [b, 1]]);
        <dict>.set(k => <any>); json_parse(json_dump(<dict>)); yaml_parse(yaml_dump(<dict>)); <numbers>.toDict($);
        {<number> => <any>}; <numbers>.aggregate($1.set($2, 1), {}); {a => json_parse(<json>)};
        {a => yaml_parse(<yaml>)}; execution(); {a => global(g)}; {a => <dict>.get(<name>, <any>)};
        {b => <dict>[<name>, <any>]}""",
}

ORQUESTA_FORMS = {
    "number": "version_compare(<version>, <version>); item().x; item(x)",
    "string": """to_json_string(<any>); to_json_string(<any>, sort_keys => <bool>, indent => 2); json_escape(<any>);
        to_yaml_string(<any>); basename(<string>); dirname(<string>); task_status(t1);
        to_human_time_from_seconds(<number>); version_bump_major(<version>); version_bump_minor(<version>);
        version_bump_patch(<version>); use_none(<string>); version_strip_patch(<version>); task(t1).task_name""",
    "bool": """succeeded(); failed(); completed(); version_more_than(<version>, <version>);
        version_less_than(<version>, <version>); version_equal(<version>, <version>);
        version_match(<version>, '>=' + <version>)""",
    "list": "zip(<list>, <list>); zip(<list>, <list>, <strings>, pad => <any>); zip(<list>)",
    "dict": """json('{}'); item(); result(); task(each); {a => json_parse(<json>)}; {a => from_json_string(<json>)};
        {a => from_yaml_string(<yaml>)}; {a => st2kv(a)}; {a => st2kv(b, default => <any>)}; {a => ctx(s)};
        {a => ctx().get(s, <any>)}""",
}


def _called(text: str) -> str:
    """The text as Orquesta has it: the context is called, except where `$` is an item."""
    text = text.replace("env()", "item()").replace("task(t1)", "result()")
    return re.sub(r"\$\.([a-z_]\w*)(?!\()", r"ctx(\1)", text)


_MISTRAL_ONLY = re.compile(r"env\(\)|tasks\(|executions\(|execution\(|global\(|uuid\(")


def _orquesta_forms(kind: str) -> str:
    shared = [form for form in FORMS[kind].split(";") if not _MISTRAL_ONLY.search(form)]
    return ";".join([*shared, ORQUESTA_FORMS.get(kind, "")])


HEAVY = (
    "let(x => %s) -> range(200000).select($x).len()",
    "[%s] * 2000000",
    "let(x => %s) -> range(60000).select([$x, $])",
    "let(x => %s) -> range(300000).aggregate([$2], [$x]).len()",
    "range(60000).aggregate($1.select($), [%s]).len()",
    "let(x => str(%s)) -> range(400000).select($x + $x).len()",
    "let(x => %s) -> range(60000).select({a => $x})",
)
"""What takes an expression to a limit, whatever it gives."""
MISTRAL_GRAMMAR = Grammar(ATOMS, FORMS, HEADS)
ORQUESTA_GRAMMAR = Grammar(
    {kind: atoms if kind in INNER else _called(atoms) for kind, atoms in ATOMS.items()},
    {kind: _orquesta_forms(kind) for kind in FORMS},
    HEADS,
)
