"""Which rows of a person are taken where a set has too many: from all sessions and both cameras, the same ones everywhere."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from pipelines.readers.item import Item
from pipelines.readers.sets.pairs import natural

SESSION = ("trial", "session", "session_id", "sequence", "set", "place")
"""Facts of a row that say when a person was there, or where."""
Key = Callable[[Item], str]


def spread_rows(items: Iterable[Item], most: int, left: Counter[str]) -> Iterator[Item]:
    """Yield, in their order, at most `most` rows of each person in each split; no picture is opened.

    items: in the order of names. Rows are taken in turn from either camera (a pair is of both), list (who enrols, who asks) and
    session, and within a session from all over it; halves of one moment before those that stand alone. What is taken with `most`
    is taken with more, too. Rows that are missing something and those of nobody known stay. left: counts what is not taken, by
    split and list.
    """
    everything = list(items)
    people = dict[tuple[str, str], list[Item]]()
    for item in everything:
        if item.identity and not item.reason:
            people.setdefault((item.split, item.identity), []).append(item)
    dropped = set[int]()
    for rows in people.values():
        if len(rows) > most:
            order = _order(rows)
            taken = {id(item) for _, item in zip(range(most), order, strict=False)}
            dropped |= {id(item) for item in rows if id(item) not in taken}
    for item in everything:
        if id(item) in dropped:
            left[_list_of(item)] += 1
        else:
            yield item


def _order(rows: Sequence[Item]) -> Iterator[Item]:
    """Yield a person's rows in the order in which they are taken."""
    halves = Counter(_moment(item) for item in rows)

    def descend(own: Sequence[Item], keys: Sequence[Key]) -> Iterator[Item]:
        if keys:
            groups = dict[str, list[Item]]()
            for item in own:
                groups.setdefault(keys[0](item), []).append(item)
            yield from _in_turn([descend(groups[key], keys[1:]) for key in sorted(groups, key=natural)])
            return
        # Both cameras' halves of one moment come at the same place of the order, so that one limit takes both.
        for joined in (True, False):
            yield from _from_all_over([item for item in own if (halves[_moment(item)] > 1) == joined])

    return descend(rows, (_camera, _role, _session))


def _in_turn(groups: Sequence[Iterator[Item]]) -> Iterator[Item]:
    """Yield one of each group, then the next of each, until all are spent."""
    pending = list(groups)
    while pending:
        for group in tuple(pending):
            if (item := next(group, None)) is None:
                pending.remove(group)
            else:
                yield item


def _from_all_over(items: Sequence[Item]) -> Iterator[Item]:
    """Yield all items so that the first few, however many, lie evenly among them: at 0, 1/2, 1/4, 3/4, 1/8 ... of the list."""
    bits, seen = len(items).bit_length(), set[int]()
    for count in range(1 << bits if items else 0):
        place = len(items) * int(f"{count:0{bits}b}"[::-1], 2) >> bits
        if place not in seen:
            seen.add(place)
            yield items[place]


def _moment(item: Item) -> str:
    """Return the name that both halves of a moment share."""
    return item.name.removesuffix("/thermal").removesuffix("/visible")


def _camera(item: Item) -> str:
    return "thermal" if not item.visible else "visible" if not item.thermal else "pair"


def _role(item: Item) -> str:
    return str(json.loads(item.facts).get("role", ""))


def _session(item: Item) -> str:
    facts = json.loads(item.facts)
    return " ".join([item.condition, *(f"{key} {facts[key]}" for key in SESSION if key in facts)])


def _list_of(item: Item) -> str:
    """Return the split of a row and, where lists say it, what the row does in it."""
    return " ".join(dict.fromkeys(word for word in (item.split, _role(item)) if word))


def tell_left(left: Counter[str], most: int | None) -> str:
    """Return in words how many rows `spread_rows` left out, of which lists; "" where none is."""
    if not left:
        return ""
    lists = ", ".join(f"{name} {count}" for name, count in left.items() if name)
    return f"{left.total()} rows by --rows-per-person {most}{': ' * bool(lists)}{lists}"
