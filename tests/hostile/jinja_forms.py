"""Jinja over all that may run in the engine, and some of what may not."""

from __future__ import annotations

from tests.hostile.forms import Grammar

HEADS = ("number", "string", "bool", "list", "dict")
ATOMS = {
    "number": "0; 1; 7; 2.5; -3; _.i; _.f; _.d.x; _.l[0]; _.big; _.wide_number; 100000; 60",
    "string": "''; 'a'; 'a,b'; ' x '; _.s; _.d.k; _.m[0]; _.text; _.unlike; _.odd; 'zz'",
    "bool": "true; false; _.t; _.i > 2",
    "list": "[]; [1, 2]; _.l; _.m; _.n; _.o; [none, 1, 'a']; _.collide; _.long; _.rows; _.deep; _.words",
    "numbers": "_.l; [1, 2]; [2.5, 1]; _.collide; _.long",
    "strings": "_.m; ['a', 'b']; _.words; ['', 'a,b']",
    "dicts": "_.o; [{'x': 1, 'y': 'a'}]; _.rows",
    "dict": "{}; {'k': 1}; {'x': 1, 'y': [2]}; _.d; _.d.inner; _.w; _.table; env(); task('t1')",
    "name": "'k'; 'x'; 'y'; 'k7'",
    "json": "_.j; '[1, 2]'; '{\"a\": null}'; '1e999'",
    "any": "none; _.u; _.i; _.s; _.l; _.d; [1]; 'a'; 2.5; _.collide; _.text; _.table; _.deep",
}
FORMS = {
    "number": """<number> + <number>; <number> - <number>; <number> * <number>; <number> / (<number> + 1);
        <number> // 7; <number> % 7; <number> ** 2; 2 ** <number>; -<number>; +<number>; <string> | length;
        <list> | length; <dict> | count; <numbers> | sum; <numbers> | max; <numbers> | min; <number> | abs;
        <number> | int; <string> | int; <string> | int(base=16); <number> | float; <numbers> | first; <numbers> | last;
        <dict>.get(<name>, 1) | int; <dicts> | map(attribute='x') | sum; <list> | unique | list | length;
        <list> | string | length; <number> | default(1); <number> if <bool> else <number>; <strings> | join | length;
        <dicts> | sum(attribute='x'); <number> | round | int; <string> | wordcount; uuid() | length;
        callback_url() | length""",
    "string": """<string> ~ <any>; <string> + <string>; <string> * 3; <string> * (<number> | int); <string> | upper;
        <string> | lower; <string> | capitalize; <string> | title; <string> | trim; <string> | trim(<string>);
        <any> | string; <strings> | join(<string>); <list> | join(', '); <string>[1:5]; <string>[::2]; <string>[::-1];
        <string>.strip(); <string>.strip(<string>); <string>.lstrip(); <string>.rstrip(<string>); <string>.upper();
        <string>.lower(); <string>.title(); <any> | json_dump; <any> | yaml_dump; '%s' % <string>;
        <string> | replace(<string>, <string>); <string> | reverse; <strings> | first; <strings> | last;
        <string> | d('a'); <string> if <bool> else <string>; <string> | center(80); <string> | truncate(9);
        <string> | escape | string; <string> | indent; <string> | wordwrap(20); <any> | pprint; <any> | tojson | string;
        <string> | urlencode; <dicts> | map(attribute='y') | join(<string>); '{}'.format(<any>); <string> | format""",
    "bool": """<number> < <number>; <number> >= <number>; <number> > <number>; <string> <= <string>; <any> == <any>;
        <any> != <any>; <list> == <list>; 0 < <number> < 9; <any> in <list>; <any> not in <list>; <string> in <string>;
        <name> in <dict>; <bool> and <bool>; <bool> or <bool>; not <any>; <any> is defined; <any> is none;
        <any> is string; <any> is number; <any> is integer; <any> is float; <any> is boolean; <any> is mapping;
        <any> is sequence; <any> is iterable; <any> is true; <any> is false; (<number> | int) is odd;
        (<number> | int) is even; <any> is eq <any>; <any> is equalto <any>; <any> is ne <any>; <number> is lt <number>;
        <number> is le <number>; <number> is gt <number>; <number> is ge <number>; <number> is lessthan <number>;
        <number> is greaterthan <number>; <any> is in <list>; <string>.startswith(<string>);
        <string>.endswith(<string>); <string>.isdigit(); <any> is undefined; <dict> == <dict>; 12 is divisibleby 3""",
    "list": """[<any>]; [<any>, <any>]; <list> + <list>; <list> * 2; <list>[1:]; <list>[::2]; <list> | list;
        <list> | map('string') | list; <strings> | map('upper') | list; <numbers> | select('gt', 1) | list;
        <numbers> | reject('odd') | list; <list> | select | list; <dicts> | selectattr('x', 'eq', 2) | list;
        <dicts> | rejectattr('x') | list; <dicts> | map(attribute='y') | list; <numbers> | sort; <strings> | sort;
        <dicts> | sort(attribute='x'); <list> | unique | list; <dicts> | unique(attribute='x') | list;
        <list> | reverse | list; <string>.split(<string> ~ ','); <string>.split(); <string>.rsplit(<string> ~ ',', 1);
        <dict> | list; <dict>.keys() | list; <dict>.values() | list; <dict>.items() | list; <dict>.items();
        <numbers> | sort(reverse=true); <list> | default([]); <list> | batch(2) | list; <list> | slice(2) | list;
        <dicts> | groupby('x') | list; <dict> | dictsort; <numbers> | map('abs') | list; <string> | list;
        <list> | map('default', 1) | list; [<list>, <list>] | sum(start=[]); <strings> | reject('in', <strings>) | list;
        tasks('e', true); executions(id='x'); <strings> | map('title') | unique | list; [<list> | random]""",
    "numbers": "<numbers> | sort; <numbers> + <numbers>; [<number>, <number>]; <numbers>[:9]; "
    "<numbers> | unique | list",
    "strings": "<strings> | sort; [<string>, <string>]; <string>.split(','); <strings> | map('upper') | list; "
    "<strings> * 3",
    "dicts": "<dicts> | sort(attribute='x'); <dicts>[:5]; <dicts> | selectattr('x') | list",
    "dict": """{<name>: <any>}; {'k': <any>, 'x': <number>}; {'a': <dict>.get(<name>, <any>)};
        {'a': <any> | json_dump | json_parse}; {'a': <json> | json_parse}; {'a': yaml_parse('a: [1]')}; execution();
        {'a': global('g')}; <dict> if <bool> else {}; {'a': <list> | first | default(1)}; {<number>: <any>}""",
}
TEXTS = (
    "{{ %s }}",
    "n = {{ %s }}",
    "{%% if %s %%}a{%% else %%}b{%% endif %%}",
    "{{ %s }} {{ %s }}",
    "{%% for x in [1, 2] %%}{{ %s }}{%% endfor %%}",
    "{%% set y = %s %%}{{ y }}",
)
"""Texts around expressions. The last two run apart."""
HEAVY = (
    "([%s] * 2000000) | length",
    "((%s | string) * 3000000) | length",
    "(([%s] * 60000) | map('string') | join) | length",
    "(([%s] * 60000) | map('default', 1) | list) | length",
)
"""What takes an expression to a limit, whatever it gives."""
GRAMMAR = Grammar(ATOMS, FORMS, HEADS)
