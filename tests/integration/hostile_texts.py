"""Expressions that stopped, froze or starved an engine once, and similar ones."""

from __future__ import annotations

import json
from collections.abc import Sequence

EXPRESSIONS = (
    # Lazy sequences that stand on each other recurse in C.
    "<% range(0, 100000).aggregate($1.select($), [1]).len() %>",
    "<% range(0, 100000).aggregate($1.zip([1]), [1]).len() %>",
    "<% range(0, 100000).aggregate($1.where(true), [1]).len() %>",
    "<% range(0, 5000).aggregate($1.concat([$2]), []).len() %>",
    "<% range(0, 100000).aggregate([$1], [1]) %>",
    # Regular expressions that go back and forth.
    "<% $.data.text.matches('(a+)+$') %>",
    "<% regex('(a|a)*$').matches($.data.text) %>",
    "{{ _.data.text | regex_search('(a+)+$') }}",
    # Numbers beyond reason.
    "<% pow(7, pow(10, 5), pow(10, 5) + 1) %>",
    "<% pow(3, 99999, pow(10, 4000) + 7) %>",
    "<% pow(2, 100000) * pow(2, 100000) %>",
    "<% range(0, 60000).select(hex(pow(10, 4000))).len() %>",
    "<% range(0, 100).aggregate($1 * $1, 7) %>",
    "{{ 10 ** 1000000 }}",
    "{{ 7 ** 77777 ** 7 }}",
    # Keys that all have the same hash.
    "<% $.data.numbers.distinct().len() %>",
    "<% $.data.numbers.toSet().len() %>",
    "<% $.data.numbers.groupBy($).len() %>",
    "<% range(0, 30000).select($ * 2305843009213693951).distinct().len() %>",
    "<% range(0, 30000).select($ * 2305843009213693951).toSet().len() %>",
    "<% range(0, 30000).toDict($ * 2305843009213693951, 1).len() %>",
    "{{ _.data.numbers | unique | list | length }}",
    # Much out of little.
    "<% 'a' * 1000000000 %>",
    "<% range(0, 1000000000).len() %>",
    "<% range(0, 60).aggregate([$1, $1], [1]) %>",
    "<% range(0, 60).aggregate($1 + $1, 'ab').len() %>",
    "<% range(0, 9).aggregate($1.replace('a', 'aaaaaaaaaaaaaaaa'), 'aaaa').len() %>",
    "<% $.data.many.join($.data.many).len() %>",
    "{{ 'a' * 1000000000 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ _.data.many | map('string') | join(_.data.text * 100000) }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(9999) %}{{ _.data.many }}{% endfor %}",
    "{{ range(100000) | list | tojson | length }}",
    "{{ _.data.many | product(_.data.many) | list }}",
    "{{ 'x' | center(100000000) }}",
    "{{ 'x' | indent(100000000) }}",
    # What JSON does not have.
    "<% pow(10, 4299) * 100 %>",
    "<% json_parse('\"\\\\ud800\"') %>",
    "<% json_parse('\"\\\\u0000\"') %>",
    "<% range(0, 2000).aggregate([$1], 1) %>",
    "{{ '\\x00' }}",
    "{{ '\\ud800' }}",
    # Sorting, comparing and looking up what is large.
    "<% range(0, 200000).orderBy(-$).len() %>",
    "<% $.data.many.where($ in $root.data.many).len() %>",
    "<% range(0, 3000).select([$, range(0, 3000)]).distinct().len() %>",
    "<% $.data.dict.items().select($).orderBy($[0]).len() %>",
    "{{ range(100000) | sort(reverse=true) | first }}",
    # Harmless neighbours, which must still give their values.
    "<% $.data.many.sum() %>",
    "<% $.data.text.len() %>",
    "{{ _.data.many | length }}",
    "<% $.data.many.where($ mod 2 = 0).select($ * 2).len() %>",
)


def workflows(expressions: Sequence[str]) -> str:
    """Return a document with a workflow for each expression, `h0`, `h1` ...: its second task publishes the value."""
    document: dict[str, object] = {"version": "2.0"}
    for number, text in enumerate(expressions):
        document[f"h{number}"] = {
            "input": ["data"],
            "output": {"told": "<% str($.x).len() %>"},
            "tasks": {
                "first": {"action": "std.noop", "on-success": ["second"]},
                "second": {"action": "std.noop", "publish": {"x": text}},
            },
        }
    return json.dumps(document)


DATA = {
    "numbers": [(2**61 - 1) * each for each in range(2_000)],
    "text": "a" * 40 + "!",
    "many": list(range(1_000)),
    "deep": [[[[[[1]]]]]],
    "dict": {f"k{each}": each for each in range(300)},
}
