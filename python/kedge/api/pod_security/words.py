# SPDX-License-Identifier: Apache-2.0
"""How findings of the Pod Security Standards are put, in upstream's words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Object = dict[str, Any]


class Finding(NamedTuple):
    """What is wrong, and where."""

    reason: str
    detail: str = ""


def containers(spec: Object) -> Iterator[Object]:
    """All containers of a pod."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def security(one: Object) -> Object:
    """The security context of a pod's spec or of a container."""
    return one.get("securityContext") or {}


def named(spec: Object, holds: Callable[[Object], object]) -> list[str]:
    """The names of containers of which something holds."""
    return [one.get("name", "") for one in containers(spec) if holds(one)]


def quoted(items: Sequence[str]) -> str:
    """``"a", "b"``."""
    return ", ".join(f'"{one}"' for one in items)


def count(one: str, many: str, items: Sequence[object]) -> str:
    """The word for one thing, or for several."""
    return one if len(items) == 1 else many


def listed(names: Sequence[str]) -> str:
    """``container "a"`` or ``containers "a", "b"``."""
    return f"{count('container', 'containers', names)} {quoted(names)}"


def setters(spec: Object, holds: Callable[[Object], object]) -> str:
    """Who sets something: ``pod and container "a"``, or nobody."""
    found = ["pod"] if holds(security(spec)) else []
    names = named(spec, lambda one: holds(security(one)))
    if names:
        found.append(listed(names))
    return " and ".join(found)
