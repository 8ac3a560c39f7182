# SPDX-License-Identifier: Apache-2.0
"""Matching labels and nodes, on decoded selectors. Pure.

``kedge.api.selectors`` reads the string form of queries; these are the structured forms inside
specs, decoded once and matched often.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kedge.cluster.machinery.wire import LabelSelector, NodeSelectorTerm, Requirement

Labels = Mapping[str, str]


def _in(requirement: Requirement, value: str | None) -> bool:
    return value is not None and value in (requirement.values or ())


def _not_in(requirement: Requirement, value: str | None) -> bool:
    return value is None or value not in (requirement.values or ())


def _compare(requirement: Requirement, value: str | None) -> int | None:
    """The sign of value - wanted, both as integers; None when either is not one."""
    wanted = requirement.values or ()
    if value is None or len(wanted) != 1:
        return None
    try:
        difference = int(value) - int(wanted[0])
    except ValueError:
        return None
    return (difference > 0) - (difference < 0)


_OPERATORS: dict[str, Callable[[Requirement, str | None], bool]] = {
    "In": _in,
    "NotIn": _not_in,
    "Exists": lambda _, value: value is not None,
    "DoesNotExist": lambda _, value: value is None,
    "Gt": lambda requirement, value: _compare(requirement, value) == 1,
    "Lt": lambda requirement, value: _compare(requirement, value) == -1,
}


def requirement_holds(requirement: Requirement, values: Labels) -> bool:
    """Whether one expression holds; an unknown operator matches nothing."""
    operator = _OPERATORS.get(requirement.operator)
    return operator is not None and operator(requirement, values.get(requirement.key))


def labels_match(selector: LabelSelector | None, labels: Labels) -> bool:
    """Whether ``labels`` are selected; no selector selects nothing, an empty one everything."""
    if selector is None:
        return False
    for key, value in (selector.match_labels or {}).items():
        if labels.get(key) != value:
            return False
    return all(requirement_holds(each, labels) for each in selector.match_expressions or ())


def is_empty(selector: LabelSelector | None) -> bool:
    """Whether a selector would select everything or is missing."""
    return selector is None or not (selector.match_labels or selector.match_expressions)


def node_term_matches(term: NodeSelectorTerm, name: str, labels: Labels) -> bool:
    """Whether a node is selected by a term; a term without requirements selects nothing."""
    expressions, fields = term.match_expressions or (), term.match_fields or ()
    if not expressions and not fields:
        return False
    node_fields = {"metadata.name": name}
    return all(requirement_holds(each, labels) for each in expressions) and all(
        requirement_holds(each, node_fields) for each in fields
    )
