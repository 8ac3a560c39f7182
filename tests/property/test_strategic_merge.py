# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from kedge.api import strategic_merge
from kedge.api.schema import Field, Struct
from tests.reference import strategic_merge as model

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
SCALARS = st.one_of(st.integers(0, 3), st.sampled_from(["x", "y"]))

INNER = Struct("Inner")
INNER.fields["tags"] = Field("list", item=Field("string"), strategies=("merge",))
OUTER = Struct("Outer")
OUTER.fields["items"] = Field(
    "list", item=Field("struct", struct=INNER), strategies=("merge",), merge_key="name"
)
OUTER.fields["finalizers"] = Field("list", item=Field("string"), strategies=("merge",))
OUTER.fields["atomic"] = Field("list", item=Field("string"))
OUTER.fields["spec"] = Field("struct", struct=INNER)
SHAPE = {"items": ("name", {"tags": ""}), "finalizers": "", "spec": {"tags": ""}}

TAGS = st.lists(NAMES, max_size=4, unique=True)


def elements(values):
    return st.fixed_dictionaries({"name": NAMES}, optional={"value": values, "tags": TAGS})


def unique_items(values):
    return st.lists(elements(values), max_size=4, unique_by=lambda item: item["name"])


ORIGINALS = st.fixed_dictionaries(
    {},
    optional={
        "items": unique_items(SCALARS),
        "finalizers": TAGS,
        "atomic": TAGS,
        "plain": SCALARS,
        "spec": st.fixed_dictionaries({}, optional={"tags": TAGS, "size": SCALARS}),
    },
)


@st.composite
def patches(draw):
    patch = {}
    if draw(st.booleans()):
        items = draw(unique_items(st.one_of(SCALARS, st.none())))
        for item in items:
            if draw(st.integers(0, 4)) == 0:
                item.clear()
                item.update({"name": draw(NAMES), "$patch": "delete"})
        if draw(st.integers(0, 9)) == 0:
            items = [item for item in items if "$patch" not in item] + [{"$patch": "replace"}]
        elif draw(st.booleans()):
            plain = [item["name"] for item in items if "$patch" not in item]
            extra = draw(
                st.lists(NAMES.filter(lambda name: name not in plain), max_size=2, unique=True)
            )
            patch["$setElementOrder/items"] = [{"name": name} for name in plain + extra]
        patch["items"] = items
    if draw(st.booleans()):
        patch["finalizers"] = draw(TAGS)
    if draw(st.booleans()):
        patch["$deleteFromPrimitiveList/finalizers"] = draw(TAGS.filter(bool))
        patch.pop("finalizers", None)
    if draw(st.booleans()):
        patch["atomic"] = draw(st.one_of(TAGS, st.none()))
    if draw(st.booleans()):
        spec = draw(
            st.fixed_dictionaries(
                {}, optional={"tags": TAGS, "size": st.one_of(SCALARS, st.none())}
            )
        )
        if draw(st.integers(0, 4)) == 0:
            spec["$patch"] = draw(st.sampled_from(["replace", "delete"]))
        elif draw(st.integers(0, 4)) == 0:
            spec["$retainKeys"] = [key for key in spec if spec[key] is not None]
        patch["spec"] = spec
    return patch


@given(ORIGINALS, patches())
def test_strategic_merge_agrees_with_the_reference_model(original, patch):
    wanted = model.apply(copy.deepcopy(original), copy.deepcopy(patch), SHAPE)
    got = strategic_merge.apply(copy.deepcopy(original), copy.deepcopy(patch), OUTER)
    assert got == wanted


@given(ORIGINALS)
def test_an_empty_patch_changes_nothing(original):
    assert strategic_merge.apply(copy.deepcopy(original), {}, OUTER) == original


@given(ORIGINALS, patches())
def test_a_patch_applied_twice_gives_what_it_gave_once(original, patch):
    once = strategic_merge.apply(copy.deepcopy(original), copy.deepcopy(patch), OUTER)
    twice = strategic_merge.apply(copy.deepcopy(once), copy.deepcopy(patch), OUTER)
    assert twice == once
