# SPDX-License-Identifier: Apache-2.0
"""Server-side apply against the slow reference: any sequence of writes leaves the same object and owners."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from kedge.api.structured import entries, managers, sets
from kedge.api.structured.compare import compare, fields_of
from kedge.api.structured.managers import ConflictsError, Writer
from kedge.api.structured.merging import merge
from kedge.api.structured.types import Type, element
from tests.reference import structured_merge as reference

TEXT = Type("scalar", "string")
NUMBER = Type("scalar", "numeric")
LABELS = Type("map", item=TEXT)
INNER = Type("map", fields={"a": TEXT, "labels": LABELS})
PORT = Type("map", fields={"port": NUMBER, "protocol": TEXT, "name": TEXT, "inner": INNER})
ROOT = Type(
    "map",
    fields={
        "text": TEXT,
        "labels": LABELS,
        "selector": Type("map", item=TEXT, atomic=True),
        "words": Type("list", item=TEXT, atomic=True),
        "marks": Type("list", item=TEXT),
        "ports": Type("list", item=PORT, keys=("port", "protocol"), defaults={"protocol": "TCP"}),
        "inner": INNER,
        "held": INNER,
    },
    always=frozenset({"held"}),
)

letters = st.sampled_from("abc")
labels = st.dictionaries(letters, letters, min_size=1, max_size=3)
inner = st.fixed_dictionaries({}, optional={"a": letters, "labels": labels}).filter(bool)
ports = st.lists(
    st.fixed_dictionaries(
        {"port": st.integers(1, 3)},
        optional={"protocol": st.sampled_from(["TCP", "UDP"]), "name": letters, "inner": inner},
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: (one["port"], one.get("protocol", "TCP")),
)
objects = st.fixed_dictionaries(
    {},
    optional={
        "text": letters,
        "labels": labels,
        "selector": labels,
        "words": st.lists(letters, min_size=1, max_size=2),
        "marks": st.lists(letters, min_size=1, max_size=3, unique=True),
        "ports": ports,
        "inner": inner,
        "held": inner,
    },
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["apply", "force", "update"]), st.sampled_from(["one", "two"]), objects
    ),
    min_size=1,
    max_size=6,
)


def canonical(kind: Type, value: Any) -> Any:
    """A value with its lists in one order, and keys that are left out filled in."""
    if reference.leaf(kind):
        return value
    if kind.form == "map":
        return {key: canonical(kind.fields.get(key) or kind.item, value[key]) for key in value}
    named = {element(kind, item): canonical(kind.item, item) for item in value}
    return [named[name] for name in sorted(named)]


def flat(fields: sets.Fields) -> frozenset[tuple[str, ...]]:
    return frozenset(sets.paths(fields))


EMPTIED = {"inner": {"labels": {"a": "a"}}}


@given(steps)
@example(
    [
        ("update", "one", EMPTIED),
        ("force", "one", {"inner": {"labels": {"a": "b"}}}),
        ("apply", "one", {}),
    ]
)
@example(
    [
        ("update", "one", {"labels": {"a": "a"}}),
        ("force", "one", {"labels": {"a": "c"}}),
        ("apply", "one", {}),
    ]
)
def test_writes_leave_the_same_object_and_owners(
    writes: list[tuple[str, str, dict[str, Any]]],
) -> None:
    model = reference.Model(ROOT)
    live: dict[str, Any] = {}
    owners: list[entries.Entry] = []
    for number, (what, manager, sent) in enumerate(writes):
        writer = Writer(manager, "v1", f"2026-01-01T00:00:{number:02}Z")
        if what == "update":
            model.update(manager, copy.deepcopy(sent))
            owners = managers.update(owners, compare(ROOT, live, sent), writer)
            live = sent
        else:
            force = what == "force"
            if not owners and live:
                continue
            expected = model.apply(manager, copy.deepcopy(sent), force=force)
            try:
                new, owners = managers.apply(ROOT, live, sent, owners, writer, force=force)
            except ConflictsError as error:
                assert {(entry.manager, path) for entry, path in error.conflicts} == expected
                assert not force
                continue
            assert not expected
            live = new
        live = reference.cleaned(live)
        assert canonical(ROOT, live) == canonical(ROOT, model.value)
        assert {(one.manager, one.operation): flat(one.owned) for one in owners} == model.owners
        for one in owners:
            assert list(one.owned) == list(sets.ordered(one.owned))


@given(objects, objects)
def test_comparing_and_merging_agree_with_the_reference(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    changed, removed = compare(ROOT, old, new)
    assert (flat(changed), flat(removed)) == reference.changes(ROOT, old, new)
    merged = merge(ROOT, old, new)
    assert canonical(ROOT, merged) == canonical(ROOT, reference.merged(ROOT, old, new))
    for name in ("ports", "marks"):
        kind = ROOT.fields[name]
        wanted = [element(kind, item) for item in new.get(name, ())]
        have = [element(kind, item) for item in merged.get(name, ())]
        assert [one for one in have if one in wanted] == wanted
    assert merge(ROOT, merged, new) == merged
    assert compare(ROOT, new, copy.deepcopy(new)) == ({}, {})


@given(objects, objects)
def test_sets_are_sets(one: dict[str, Any], two: dict[str, Any]) -> None:
    left, right = compare(ROOT, {}, one).changed, fields_of(ROOT, two)
    a, b = flat(left), flat(right)
    assert flat(sets.union(left, right)) == a | b
    assert flat(sets.intersection(left, right)) == a & b
    assert flat(sets.difference(left, right)) == a - b
    deep = {p for p in a if not any(p[: len(q)] == q for q in b)}
    assert flat(sets.deep_difference(left, right)) == deep
    assert sets.includes(left, right) == (b <= a)
    assert sets.ordered(sets.parse(left)) == left
    assert all(sets.has(left, path) for path in a)
    assert not any(sets.has(left, path) for path in b - a)
