# SPDX-License-Identifier: Apache-2.0
"""Completion indexes as text and as spans."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.api.indexes import Indexes, check

SETS = st.sets(st.integers(0, 40))


@given(SETS, SETS)
def test_they_are_sets(one: set[int], other: set[int]):
    left, right = Indexes.of(one), Indexes.of(other)
    both = left | right
    assert {number for number in range(50) if number in both} == one | other
    assert len(both) == len(one | other)
    assert left.in_common(right) == len(one & other)
    assert list(both.absent(45)) == [number for number in range(45) if number not in one | other]


@given(SETS)
def test_text_is_read_back(numbers: set[int]):
    found = Indexes.of(numbers)
    assert Indexes.read(str(found), 50) == found
    assert check(str(found), 50) == (found, "")


def test_runs_of_three_and_more_are_written_short():
    assert str(Indexes.of([1, 3, 4, 6, 7, 8])) == "1,3,4,6-8"


def test_what_is_out_of_range_or_no_number_is_left_out_of_a_status():
    assert str(Indexes.read("1,x,3-9,7-y,12", 5)) == "1,3,4"


def test_absent_indexes_of_a_vast_job_are_found_one_by_one():
    assert list(itertools.islice(Indexes.of([0]).absent(10**12), 2)) == [1, 2]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "1-2-3",
            'the fragment "1-2-3" violates the requirement that an index interval can have at most two parts '
            "separated by '-'",
        ),
        ("a", 'cannot convert string to integer for index: "a"'),
        ("1,9", 'too large index: "9"'),
        ("3-1", "non-increasing order, previous: 3, current: 1"),
        ("1,1", "non-increasing order, previous: 1, current: 1"),
    ],
)
def test_text_of_users_is_read_strictly(text: str, why: str):
    assert check(text, 5)[1] == why
