# SPDX-License-Identifier: Apache-2.0
"""The Pod Security Standards: which policy a namespace's labels ask for, and what of it a pod violates. Pure.

The checks are in ``baseline`` and ``restricted``, each with the versions of Kubernetes since which it is as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from kedge.api.pod_security import baseline, restricted

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.api.pod_security.words import Finding
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

LABELS = "pod-security.kubernetes.io/"
PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)
MODES = ("enforce", "audit", "warn")
LATEST = 1 << 31
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]{0,8})")


class LevelVersion(NamedTuple):
    """A level of the standards, as it is in a minor version of Kubernetes."""

    level: str = PRIVILEGED
    minor: int = LATEST

    def __str__(self) -> str:
        version = "latest" if self.minor == LATEST else f"v1.{self.minor}"
        return f"{self.level}:{version}"

    def is_stricter(self, other: LevelVersion) -> bool:
        """Whether the level is."""
        return LEVELS.index(self.level) > LEVELS.index(other.level)


class Policy(NamedTuple):
    """What a namespace enforces, and what it only tells of."""

    enforce: LevelVersion = LevelVersion()
    audit: LevelVersion = LevelVersion()
    warn: LevelVersion = LevelVersion()

    @property
    def asks_nothing(self) -> bool:
        """Whether every pod is as it should be."""
        return all(one.level == PRIVILEGED for one in self)


def policy_of(labels: dict[str, str] | None, problems: Problems | None = None) -> Policy:
    """The policy of a namespace.

    A label that cannot be read enforces the strictest and tells of nothing.

    Args:
        labels: of the namespace.
        problems: gets what cannot be read.
    """
    if not labels:
        return Policy()
    found = []
    for mode in MODES:
        level, minor = PRIVILEGED, LATEST
        label = LABELS + mode
        if label in labels:
            level = labels[label]
            if level not in LEVELS:
                if problems is not None:
                    words = "must be one of privileged, baseline, restricted"
                    problems.invalid(f"metadata.labels[{label}]", level, words)
                level = RESTRICTED if mode == "enforce" else PRIVILEGED
        label = f"{LABELS}{mode}-version"
        if labels.get(label, "latest") != "latest":
            match = _VERSION.fullmatch(labels[label])
            if match:
                minor = int(match[1])
            elif problems is not None:
                words = 'must be "latest" or "v1.x"'
                problems.invalid(f"metadata.labels[{label}]", labels[label], words)
        found.append(LevelVersion(level, minor))
    return Policy(*found)


def violations(wanted: LevelVersion, metadata: Object, spec: Object) -> list[Finding]:
    """What of a pod is against a level."""
    if wanted.level == PRIVILEGED:
        return []
    is_restricted = wanted.level == RESTRICTED
    checks = _current(restricted.CHECKS, wanted.minor) if is_restricted else {}
    replaced = {restricted.INSTEAD_OF.get(name) for name in checks}
    first = _current(baseline.CHECKS, wanted.minor)
    run = [check for name, check in first.items() if name not in replaced]
    found = [check(metadata, spec) for check in (*run, *checks.values())]
    return [one for one in found if one is not None]


def _current(
    checks: dict[str, tuple[tuple[int, Callable[[Object, Object], Finding | None]], ...]],
    minor: int,
) -> dict[str, Callable[[Object, Object], Finding | None]]:
    """The form of each check in a version; those that it does not have yet are left out."""
    current = {}
    for name, forms in checks.items():
        since = [check for first, check in forms if first <= minor]
        if since:
            current[name] = since[-1]
    return current


def in_detail(found: list[Finding]) -> str:
    """Findings as errors and warnings show them."""
    return ", ".join(f"{one.reason} ({one.detail})" if one.detail else one.reason for one in found)


def in_short(found: list[Finding]) -> str:
    """Findings without the names of what is wrong."""
    return ", ".join(one.reason for one in found)


def is_significant(new: Object, old: Object) -> bool:
    """Whether a change of a pod can make a violation: images and containers change, little else does."""
    for field in ("containers", "initContainers"):
        if len(new["spec"].get(field) or ()) != len(old["spec"].get(field) or ()):
            return True
    for field in ("containers", "initContainers", "ephemeralContainers"):
        before = {one.get("name"): one.get("image") for one in old["spec"].get(field) or ()}
        for one in new["spec"].get(field) or ():
            if before.get(one.get("name")) != one.get("image"):
                return True
    return False


def template_of(obj: Object) -> Object | None:
    """The pod template of a workload, if it has one."""
    spec = obj.get("spec") or {}
    if "jobTemplate" in spec:
        spec = spec["jobTemplate"].get("spec") or {}
    found: Object | None = spec.get("template") or obj.get("template")
    return found
