# SPDX-License-Identifier: Apache-2.0
"""Kubernetes quantities (``100m``, ``1Gi``, ``2e3``): parse, compare, write canonically.

Exact arithmetic on ``Decimal``. The canonical form is the one the API server writes: no fraction,
the largest suffix of the same family that keeps the number whole.
"""

from __future__ import annotations

import re
from decimal import ROUND_UP, Decimal, localcontext
from functools import lru_cache

from kedge.errors import BadRequest

PATTERN = re.compile(
    r"^([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)(|[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,3})$"
)
MAX_LENGTH = 64
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_SYNTAX = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
_NANO = Decimal("1e-9")


@lru_cache(maxsize=4096)
def parse(text: str) -> Decimal:
    """The value of a quantity.

    Raises:
        BadRequest: it is not one.
    """
    return _split(text)[0]


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """A quantity as the API server stores it.

    Raises:
        BadRequest: it is not one.
    """
    return _written(*_split(text))


def _written(value: Decimal, family: str) -> str:
    if value == 0:
        return "0"
    if family == "binary" and abs(value) >= 1024 and value == value.to_integral_value():
        return _binary(int(value))
    return _decimal(value, exponent=family == "exponent")


def plus(one: str, other: str) -> str:
    """The sum, written in the family of the first that is not zero."""
    value, family = _split(one)
    more, family_of_other = _split(other)
    return _written(value + more, family if value else family_of_other)


def minus(one: str, other: str) -> str:
    """The difference, written in the family of the first that is not zero."""
    value, family = _split(one)
    less, family_of_other = _split(other)
    return _written(value - less, family if value else family_of_other)


def milli(text: str) -> int:
    """The value in thousandths, rounded up; what CPU is counted in."""
    return _ceil(parse(text) * 1000)


def integer(text: str) -> int:
    """The value in whole units, rounded up; what memory and counts are counted in."""
    return _ceil(parse(text))


def _ceil(value: Decimal) -> int:
    return int(value.to_integral_value(rounding="ROUND_CEILING"))


def _split(text: str) -> tuple[Decimal, str]:
    match = PATTERN.match(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise BadRequest(f"{_SYNTAX}, got: {text[:MAX_LENGTH]!r}")
    sign, digits, suffix = match.groups()
    with localcontext() as context:
        context.prec = 100
        number = Decimal(sign + digits)
        if suffix in _BINARY:
            value, family = number * (1 << _BINARY[suffix]), "binary"
        elif suffix in _DECIMAL:
            value, family = number.scaleb(_DECIMAL[suffix]), "decimal"
        else:
            value, family = number.scaleb(max(-99, min(99, int(suffix[1:])))), "exponent"
        if value != value.quantize(_NANO, rounding=ROUND_UP):
            value = value.quantize(_NANO, rounding=ROUND_UP)
    return value, family


def _binary(value: int) -> str:
    for suffix, shift in reversed(_BINARY.items()):
        if value % (1 << shift) == 0:
            return f"{value >> shift}{suffix}"
    return str(value)


def _decimal(value: Decimal, *, exponent: bool) -> str:
    for suffix, power in reversed(_DECIMAL.items()):
        scaled = value.scaleb(-power)
        if scaled == scaled.to_integral_value():
            if exponent and power:
                return f"{int(scaled)}e{power}"
            return f"{int(scaled)}{suffix}"
    raise AssertionError("a quantity has no more than nine decimal places")
