# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kedge.api import quantities
from kedge.errors import BadRequest


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("100m", "100m"), ("0.1", "100m"), ("1000m", "1"), ("1.5", "1500m"), ("1Gi", "1Gi"), ("1024Mi", "1Gi"),
        ("1000Ki", "1000Ki"), ("0.5Gi", "512Mi"), ("1e3", "1e3"), ("1000", "1k"), ("1500", "1500"), ("0", "0"),
        ("0Gi", "0"), ("-1", "-1"), ("12E", "12E"), ("1n", "1n"), ("0.1n", "1n"), ("123456789", "123456789"),
    ],
)  # fmt: skip
def test_quantities_are_written_canonically(text, canonical):
    assert quantities.canonical(text) == canonical


@pytest.mark.parametrize(
    "text", ["", "1 Gi", "Gi", "1gi", "1.2.3", "--1", "1e9999", "9" * 100, "1Ki5"]
)
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(BadRequest, match="quantities must match"):
        quantities.parse(text)


def test_amounts_compare_and_round_up():
    assert quantities.parse("1Gi") > quantities.parse("1G")
    assert quantities.milli("0.0001") == 1
    assert quantities.integer("1500m") == 2
