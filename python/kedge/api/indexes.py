# SPDX-License-Identifier: Apache-2.0
"""Completion indexes of a Job as text such as ``1,3-5,7``, and as ordered spans. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Span = tuple[int, int]
"""First and last index."""
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


class Indexes:
    """A set of indexes, held as spans that neither touch nor overlap."""

    __slots__ = ("spans",)

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        merged: list[Span] = []
        for first, last in sorted(spans):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        self.spans = tuple(merged)

    @classmethod
    def read(cls, text: str, completions: int) -> Indexes:
        """Those below ``completions`` that a status names; what cannot be read is left out."""
        spans: list[Span] = []
        for part in text.split(",") if text else ():
            first, _, last = part.partition("-")
            if not _NUMBER.fullmatch(first) or (last and not _NUMBER.fullmatch(last)):
                continue
            low, high = int(first), min(int(last or first), completions - 1)
            if 0 <= low <= high:
                spans.append((low, high))
        return cls(spans)

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Indexes:
        """A set of single indexes."""
        return cls((number, number) for number in numbers)

    def __or__(self, other: Indexes) -> Indexes:
        return Indexes((*self.spans, *other.spans)) if other.spans else self

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.spans)

    def __contains__(self, number: int) -> bool:
        at = bisect_left(self.spans, number, key=lambda span: span[1])
        return at < len(self.spans) and self.spans[at][0] <= number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Indexes) and self.spans == other.spans

    def __hash__(self) -> int:
        return hash(self.spans)

    def __str__(self) -> str:
        return ",".join(
            str(first) if first == last else f"{first}{',' if last == first + 1 else '-'}{last}"
            for first, last in self.spans
        )

    def in_common(self, other: Indexes) -> int:
        """How many indexes are in both."""
        return len(self) + len(other) - len(self | other)

    def absent(self, completions: int) -> Iterator[int]:
        """Indexes below ``completions`` that are not in the set, in order."""
        at = 0
        for first, last in self.spans:
            yield from range(at, min(first, completions))
            at = last + 1
        yield from range(at, completions)


def check(text: str, completions: int) -> tuple[Indexes, str]:
    """Reads indexes strictly; the complaint in upstream's words, or an empty text."""
    spans: list[Span] = []
    for part in text.split(",") if text else ():
        span, complaint = _span(part, completions)
        if complaint:
            return Indexes(), complaint
        if spans and spans[-1][1] >= span[0]:
            order = f"non-increasing order, previous: {spans[-1][1]}, current: {span[0]}"
            return Indexes(), order
        spans.append(span)
    return Indexes(spans), ""


def _span(part: str, completions: int) -> tuple[Span, str]:
    ends = part.split("-")
    if len(ends) > 2:
        why = (
            f'the fragment "{part}" violates the requirement that an index interval can have at most two parts '
            "separated by '-'"
        )
        return (0, 0), why
    for end in ends:
        if not _NUMBER.fullmatch(end):
            return (0, 0), f'cannot convert string to integer for index: "{end}"'
        if int(end) >= completions:
            return (0, 0), f'too large index: "{end}"'
    first, last = int(ends[0]), int(ends[-1])
    if len(ends) == 2 and first >= last:
        return (0, 0), f"non-increasing order, previous: {first}, current: {last}"
    return (first, last), ""
