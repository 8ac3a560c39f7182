# SPDX-License-Identifier: Apache-2.0
"""Which revision is a template's, and which are forgotten."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from kedge.cluster.machinery.batches import slowly
from kedge.cluster.machinery.revisions import (
    Revision,
    choose,
    data_of,
    digest_of,
    forgettable,
)


def template(image: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "c", "image": image}]}, "metadata": {}}


def revision(number: int, image: str, name: str = "") -> Revision:
    return Revision(name or f"r{number}", f"u{number}", number, "", {}, data_of(template(image)))


ALL = [revision(1, "a"), revision(2, "b"), revision(5, "c")]


@pytest.mark.parametrize(
    ("image", "present", "number"),
    [("c", "r5", 5), ("a", "r1", 6), ("b", "r2", 6), ("d", None, 6)],
)
def test_a_template_has_the_newest_revision_or_gets_it(
    image: str, present: str | None, number: int
):
    choice = choose(data_of(template(image)), ALL)
    assert (choice.present and choice.present.name, choice.number) == (present, number)


def test_the_first_revision_is_one():
    assert choose(data_of(template("a")), []).number == 1


def test_of_two_with_the_same_template_the_newer_is_meant():
    twins = [revision(1, "a"), revision(2, "a")]
    assert choose(data_of(template("a")), twins).present is twins[1]


def test_a_revision_holds_a_patch_that_puts_its_template_back():
    data = data_of(template("a"))
    assert data["spec"]["template"]["$patch"] == "replace"
    assert list(data["spec"]["template"]) == ["$patch", "metadata", "spec"]
    assert revision(1, "a").template == template("a")


def test_the_hash_is_of_the_template_and_of_collisions():
    text = json.dumps(template("a"), sort_keys=True, separators=(",", ":"))
    assert digest_of(template("a"), 0) == hashlib.sha256(text.encode()).hexdigest()[:10]
    assert len({digest_of(template("a"), count) for count in range(4)}) == 4
    assert digest_of(template("a"), 1) != digest_of(template("b"), 1)


@pytest.mark.parametrize(
    ("live", "limit", "live_count", "gone"),
    [
        (set(), 3, False, []),
        (set(), 1, False, ["r1", "r2"]),
        ({"r1"}, 1, False, ["r2"]),
        ({"r1"}, 1, True, ["r2", "r5"]),
        ({"r1", "r2", "r5"}, 0, True, []),
        (set(), -1, False, []),
    ],
)
def test_the_oldest_that_nothing_was_made_from_are_forgotten(
    live: set[str], limit: int, live_count: bool, gone: list[str]
):
    found = forgettable(ALL, live, limit, live_count=live_count)
    assert [each.name for each in found] == gone


async def test_batches_double_and_end_with_the_first_failure():
    running, most, calls = 0, [], []

    async def call(number: int) -> None:
        nonlocal running
        running += 1
        calls.append(number)
        most.append(running)
        running -= 1
        if number == 4:
            raise ValueError(number)

    with pytest.raises(ValueError, match="4"):
        await slowly([lambda number=number: call(number) for number in range(40)])
    assert calls == list(range(7))
