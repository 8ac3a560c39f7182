# SPDX-License-Identifier: Apache-2.0
"""``kedge store dump | get``: printing what ``store_inspect`` finds in a stopped store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kedge.api.keys import ObjectKey
from kedge.ctl import store_inspect
from kedge.ctl.failure import Failure

if TYPE_CHECKING:
    from pathlib import Path


def dump(path: Path, resource: str) -> None:
    """Prints all objects, or those of one resource, one JSON object a line.

    Raises:
        Failure: the store cannot be read.
    """
    plural, group = split(resource)
    for found in store_inspect.objects(path, group, plural):
        print(found.line())


def get(path: Path, resource: str, namespace: str, name: str) -> None:
    """Prints one object's JSON.

    Raises:
        Failure: the store cannot be read, or the object is not there, sealed or damaged.
    """
    plural, group = split(resource)
    key = ObjectKey(group, plural, namespace, name)
    found = store_inspect.find(path, key)
    if found is None:
        raise Failure("NotFound", f"{key} is not in {path}", f"kedge store dump {path} lists all")
    if found.problem:
        hint = "sealed values open only on their node" if found.problem == "sealed" else ""
        raise Failure("Unreadable", f"{key}: {found.problem}", hint)
    print(json.dumps(found.value, indent=2, ensure_ascii=False))


def split(resource: str) -> tuple[str, str]:
    """The plural and the group in ``deployments.apps``."""
    plural, _, group = resource.partition(".")
    return plural, group
