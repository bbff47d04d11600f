"""YAQL's queries. As in the library most of them give iterators: nothing is computed before it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cmp_to_key
from itertools import accumulate as accumulated
from itertools import chain, dropwhile, islice, takewhile, zip_longest
from typing import Any

from dalsegno.expressions.integers import BITS_PER_STEP, bounded
from dalsegno.expressions.keys import key_of
from dalsegno.expressions.values import CONTAINER_COST, MEMBER_COST, BuiltList, describe, is_iterable, is_iterator
from dalsegno.expressions.yaql import strings
from dalsegno.expressions.yaql.collections import DISTINCT_COST, distinct_items, need_integer
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.lazy import depth_of, stack
from dalsegno.expressions.yaql.mathematics import larger, smaller
from dalsegno.expressions.yaql.operators import add, collect, equal, greater, is_sequence, less, pack, pay, walk
from dalsegno.expressions.yaql.registry import ANY, builtin
from dalsegno.workflow.scope import EvaluationError

One = Callable[[Any], Any]
Two = Callable[[Any, Any], Any]
Ranked = tuple[Any, list[Any]]
"""An item and what selectors gave for it."""


@builtin("where", "filter", least=2, method=True, lambdas={1: 1})
def where(frame: Frame, items: Any, predicate: One) -> object:
    source = walk(frame, items, "where()")
    kept = filter(predicate, source)
    return kept if type(source) is list else stack(kept, source)


@builtin("select", "map", least=2, method=True, lambdas={1: 1})
def select(frame: Frame, items: Any, selector: One) -> object:
    source = walk(frame, items, "select()")
    selected = map(selector, source)
    return selected if type(source) is list else stack(selected, source)


@builtin("selectMany", least=2, method=True, lambdas={1: 1})
def select_many(frame: Frame, items: Any, selector: One) -> object:
    source = walk(frame, items, "selectMany()")

    def run() -> Iterator[Any]:
        for item in source:
            inner = selector(item)
            if is_iterable(inner):
                yield from walk(frame, inner, "selectMany()")
            else:
                yield inner

    return stack(run(), source)


@builtin("skip", least=2, method=True)
def skip(frame: Frame, items: Any, count: Any) -> object:
    source = walk(frame, items, "skip()")
    return stack(islice(source, _count(count, "skip()"), None), source)


@builtin("limit", "take", least=2, method=True)
def limit(frame: Frame, items: Any, count: Any) -> object:
    source = walk(frame, items, "limit()")
    return stack(islice(source, _count(count, "limit()")), source)


def _count(value: Any, what: str) -> int:
    number = need_integer(value, what)
    if number < 0:
        raise EvaluationError(f"{what} needs a number that is not negative")
    return number


@builtin("append", least=1, most=ANY, method=True, function=True)
def append(frame: Frame, items: Any, *more: Any) -> object:
    source = walk(frame, items, "append()")
    return stack(chain(source, more), source)


@builtin("concat", least=1, most=ANY, function=True)
def concat(frame: Frame, *parts: Any) -> object:
    """Of strings one string, of lists one list."""
    if isinstance(parts[0], str):
        return strings.concat_strings(frame, *parts)
    return chained(frame, *parts)


@builtin("concat", least=1, most=ANY, method=True)
def chained(frame: Frame, *parts: Any) -> object:
    sources = [walk(frame, part, "concat()") for part in parts]
    return stack(chain(*sources), *sources)


@builtin("distinct", least=1, most=2, method=True, function=True, lambdas={1: 1})
def distinct(frame: Frame, items: Any, key: One | None = None) -> object:
    source = walk(frame, items, "distinct()")
    return stack(distinct_items(frame, source, key), source)


@builtin("enumerate", least=1, most=2, method=True, function=True)
def enumerated(frame: Frame, items: Any, start: Any = 0) -> object:
    first = need_integer(start, "enumerate()")
    source = walk(frame, items, "enumerate()")
    frame.budget.step(bounded(frame.budget, first).bit_length() // BITS_PER_STEP)
    return stack(pack(frame, enumerate(source, first), 2), source)


@builtin("any", least=1, most=2, method=True, function=True, lambdas={1: 1})
def any_of(frame: Frame, items: Any, predicate: One | None = None) -> object:
    return any(predicate is None or predicate(item) for item in walk(frame, items, "any()"))


@builtin("all", least=1, most=2, method=True, function=True, lambdas={1: 1})
def all_of(frame: Frame, items: Any, predicate: One | None = None) -> object:
    return all(predicate(item) if predicate else item for item in walk(frame, items, "all()"))


@builtin("count", method=True)
def count(frame: Frame, items: Any) -> object:
    return sum(1 for _ in walk(frame, items, "count()"))


_NOTHING: Any = object()


def _reduce(frame: Frame, items: Iterable[Any], combine: Two, first: Any, what: str) -> object:
    source = iter(pay(frame, items))
    result = next(source, _NOTHING) if first is _NOTHING else first
    if result is _NOTHING:
        raise EvaluationError(f"{what} of an empty list")
    for item in source:
        result = combine(result, item)
    return result


@builtin("aggregate", "reduce", least=2, most=3, method=True, lambdas={1: 2})
def aggregate(frame: Frame, items: Any, combine: Two, first: Any = _NOTHING) -> object:
    return _reduce(frame, walk(frame, items, "aggregate()"), combine, first, "aggregate()")


@builtin("accumulate", least=2, most=3, method=True, lambdas={1: 2})
def accumulate(frame: Frame, items: Any, combine: Two, first: Any = _NOTHING) -> object:
    source = walk(frame, items, "accumulate()")
    if first is not _NOTHING:
        return stack(accumulated(source, combine, initial=first), source)

    def run() -> Iterator[Any]:
        empty = True
        for item in accumulated(source, combine):
            empty = False
            yield item
        if empty:
            raise EvaluationError("accumulate() of an empty list")

    return stack(run(), source)


@builtin("sum", least=1, most=2, method=True)
def total(frame: Frame, items: Any, first: Any = _NOTHING) -> object:
    return _reduce(frame, walk(frame, items, "sum()"), lambda left, right: add(frame, left, right), first, "sum()")


@builtin("max", least=2, function=True)
def larger_of(frame: Frame, left: Any, right: Any) -> object:
    return larger(frame, left, right)


@builtin("min", least=2, function=True)
def smaller_of(frame: Frame, left: Any, right: Any) -> object:
    return smaller(frame, left, right)


@builtin("max", least=1, most=2, method=True)
def maximum(frame: Frame, items: Any, first: Any = _NOTHING) -> object:
    return _reduce(frame, walk(frame, items, "max()"), lambda left, right: larger(frame, left, right), first, "max()")


@builtin("min", least=1, most=2, method=True)
def minimum(frame: Frame, items: Any, first: Any = _NOTHING) -> object:
    return _reduce(frame, walk(frame, items, "min()"), lambda left, right: smaller(frame, left, right), first, "min()")


@builtin("first", least=1, most=2, method=True)
def first(frame: Frame, items: Any, default: Any = _NOTHING) -> object:
    if not is_iterable(items):
        raise EvaluationError(f"first() needs a list, not {describe(items)}")
    found = next(iter(items), default)
    if found is _NOTHING:
        raise EvaluationError("first() of an empty list")
    return found


@builtin("single", method=True)
def single(frame: Frame, items: Any) -> object:
    found = list(islice(walk(frame, items, "single()"), 2))
    if len(found) != 1:
        raise EvaluationError(f"single() of {'an empty list' if not found else 'more than one item'}")
    return found[0]


@builtin("last", least=1, most=2, method=True)
def last(frame: Frame, items: Any, default: Any = _NOTHING) -> object:
    found = default
    if is_sequence(items):
        found = items[-1] if items else default
    else:
        for item in walk(frame, items, "last()"):
            found = item
    if found is _NOTHING:
        raise EvaluationError("last() of an empty list")
    return found


@builtin("range", least=1, most=3, function=True)
def numbers(frame: Frame, *bounds: Any) -> object:
    limits = [need_integer(bound, "range()") for bound in bounds]
    if len(limits) == 3 and limits[2] == 0:
        raise EvaluationError("range() in steps of 0")
    longest = max(abs(bounded(frame.budget, limit)).bit_length() for limit in limits)
    return pay(frame, range(*limits), 1 + longest // BITS_PER_STEP)


@builtin("orderBy", least=2, method=True, lambdas={1: 1})
def order_by(frame: Frame, items: Any, selector: One) -> object:
    return Ordering(frame, walk(frame, items, "orderBy()"), selector, 1)


@builtin("orderByDescending", least=2, method=True, lambdas={1: 1})
def order_by_descending(frame: Frame, items: Any, selector: One) -> object:
    return Ordering(frame, walk(frame, items, "orderByDescending()"), selector, -1)


@builtin("thenBy", least=2, method=True, lambdas={1: 1})
def then_by(frame: Frame, items: Any, selector: One) -> object:
    return _then(items, selector, 1)


@builtin("thenByDescending", least=2, method=True, lambdas={1: 1})
def then_by_descending(frame: Frame, items: Any, selector: One) -> object:
    return _then(items, selector, -1)


def _then(items: Any, selector: One, direction: int) -> object:
    if not isinstance(items, Ordering):
        raise EvaluationError("thenBy() needs something ordered")
    items.order.append((selector, direction))
    return items


COMPARE_COST = 2
"""Steps of comparing two items, without what their selectors cost."""


class Ordering:
    """A list that is sorted when it is iterated: until then `thenBy` may extend its order."""

    def __init__(self, frame: Frame, items: Iterable[Any], selector: One, direction: int) -> None:
        self.frame = frame
        self.items = items
        self.order = [(selector, direction)]
        self.depth = depth_of(items) + 1
        self.sorted: list[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        if self.sorted is None:
            items = collect(self.frame, self.items)
            self.frame.budget.build((CONTAINER_COST + len(self.order)) * len(items))
            pairs: list[Ranked] = [(item, []) for item in items]
            ranked = sorted(pairs, key=cmp_to_key(self._compare))
            self.sorted = [item for item, _ in ranked]
        return iter(self.sorted)

    def _compare(self, left: Ranked, right: Ranked) -> int:
        """By one selector after the other. What a selector gives for an item is kept beside the item."""
        self.frame.budget.step(COMPARE_COST)
        for place, (_, direction) in enumerate(self.order):
            first, second = self._rank(left, place), self._rank(right, place)
            if less(self.frame, first, second):
                return -direction
            if greater(self.frame, first, second):
                return direction
        return 0

    def _rank(self, ranked: Ranked, place: int) -> Any:
        item, ranks = ranked
        if len(ranks) <= place:
            ranks.append(self.order[place][0](item))
        return ranks[place]


def join_lists(frame: Frame, left: Any, right: Any, predicate: Two, selector: Two) -> Iterator[Any]:
    others = collect(frame, right)
    for one in left:
        for other in others:
            if predicate(one, other):
                yield selector(one, other)


@builtin("join", least=2, most=4, method=True, lambdas={2: 2, 3: 2})
def join(frame: Frame, left: Any, *arguments: Any) -> object:
    """Of strings with one argument, of lists with three."""
    if len(arguments) == 1:
        return strings.join_strings(frame, left, arguments[0])
    if len(arguments) == 3:
        right, predicate, selector = arguments
        first, second = walk(frame, left, "join()"), walk(frame, right, "join()")
        return stack(join_lists(frame, first, second, predicate, selector), first, second)
    raise EvaluationError("join() takes a separator, or a list, a predicate and a selector")


@builtin("groupBy", least=2, most=3, method=True, lambdas={1: 1, 2: 1})
def group_by(frame: Frame, items: Any, key: One, value: One | None = None) -> object:
    groups: dict[object, BuiltList] = {}
    for item in walk(frame, items, "groupBy()"):
        frame.budget.step(DISTINCT_COST)
        frame.budget.build(1)
        found, mark = item if value is None else value(item), key(item)
        known = key_of(frame.budget, mark)
        group = groups.get(known)
        if group is None:
            frame.budget.build(MEMBER_COST + 2 * CONTAINER_COST)
            group = groups[known] = BuiltList([mark, BuiltList()])
        group[1].append(found)
    return iter(groups.values())


@builtin("zip", least=1, most=ANY, method=True)
def zipped(frame: Frame, *lists: Any) -> object:
    sources = [walk(frame, items, "zip()") for items in lists]
    return stack(pack(frame, zip(*sources, strict=False), len(sources)), *sources)


@builtin("zipLongest", least=1, most=ANY, method=True)
def zipped_longest(frame: Frame, *lists: Any) -> object:
    sources = [walk(frame, items, "zipLongest()") for items in lists]
    return stack(pack(frame, zip_longest(*sources), len(sources)), *sources)


@builtin("takeWhile", least=2, method=True, lambdas={1: 1})
def take_while(frame: Frame, items: Any, predicate: One) -> object:
    source = walk(frame, items, "takeWhile()")
    return stack(takewhile(predicate, source), source)


@builtin("skipWhile", least=2, method=True, lambdas={1: 1})
def skip_while(frame: Frame, items: Any, predicate: One) -> object:
    source = walk(frame, items, "skipWhile()")
    return stack(dropwhile(predicate, source), source)


@builtin("indexOf", least=2, most=4, method=True)
def index_of(frame: Frame, target: Any, item: Any, *span: Any) -> object:
    if isinstance(target, str):
        return strings.find_in_string(frame, target, item, span, last=False)
    return next((place for place in _places(frame, target, item, span, "indexOf()")), -1)


@builtin("lastIndexOf", least=2, most=4, method=True)
def last_index_of(frame: Frame, target: Any, item: Any, *span: Any) -> object:
    if isinstance(target, str):
        return strings.find_in_string(frame, target, item, span, last=True)
    return max(_places(frame, target, item, span, "lastIndexOf()"), default=-1)


def _places(frame: Frame, items: Any, wanted: Any, span: tuple[Any, ...], what: str) -> Iterator[int]:
    if span:
        raise EvaluationError(f"{what} of a list takes one argument")
    return (place for place, item in enumerate(walk(frame, items, what)) if equal(frame, item, wanted))


@builtin("indexWhere", least=2, method=True, lambdas={1: 1})
def index_where(frame: Frame, items: Any, predicate: One) -> object:
    source = walk(frame, items, "indexWhere()")
    return next((place for place, item in enumerate(source) if predicate(item)), -1)


@builtin("lastIndexWhere", least=2, method=True, lambdas={1: 1})
def last_index_where(frame: Frame, items: Any, predicate: One) -> object:
    source = enumerate(walk(frame, items, "lastIndexWhere()"))
    return max((place for place, item in source if predicate(item)), default=-1)


@builtin("slice", least=2, method=True)
def slices(frame: Frame, items: Any, length: Any) -> object:
    items = walk(frame, items, "slice()")
    source = iter(items)
    size = _count(length, "slice()")
    return stack(iter(lambda: collect(frame, islice(source, size)), []), items)


@builtin("reverse", method=True)
def reverse(frame: Frame, items: Any) -> object:
    return reversed(collect(frame, walk(frame, items, "reverse()")))


@builtin("defaultIfEmpty", least=2, method=True)
def default_if_empty(frame: Frame, items: Any, default: Any) -> object:
    if not is_iterable(default):
        raise EvaluationError(f"defaultIfEmpty() needs a list, not {describe(default)}")
    source = walk(frame, items, "defaultIfEmpty()")
    found = collect(frame, source) if is_iterator(source) else source
    if not any(True for _ in found):
        return default
    return iter(found) if is_iterator(source) else found
