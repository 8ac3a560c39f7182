# SPDX-License-Identifier: Apache-2.0
"""Volumes of ConfigMaps and Secrets against a model: whatever comes, changes, goes and comes again."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.volumes import VolumeError, Volumes
from tests.unit.edge.kubelet.test_volumes import PLACE, Held, Mounts, pod

RESOURCES = ("configmaps", "secrets")
KEYS = st.sampled_from(["a", "b", "c"])
DATA = st.dictionaries(KEYS, st.binary(max_size=8), max_size=3)
ITEMS = [{"key": "a", "path": "deep/a"}, {"key": "b", "path": "b", "mode": 0o400}]

Files = dict[str, bytes]
Objects = dict[str, Files]
"""What a model has: by resource, the values; a resource without an object is absent."""


def chosen(data: Files | None, *, items: bool, optional: bool) -> Files | None:
    """What a volume is to show of an object; None when it must stay as it is."""
    if data is None:
        return {} if optional else None
    if not items:
        return dict(data)
    if not optional and not {"a", "b"} <= data.keys():
        return None
    return {one["path"]: data[str(one["key"])] for one in ITEMS if one["key"] in data}  # type: ignore[misc]


def source(resource: str, *, items: bool, optional: bool) -> dict[str, Any]:
    name = (
        {"configMap": {"name": "x"}}
        if resource == "configmaps"
        else {"secret": {"secretName": "x"}}
    )
    held = next(iter(name.values()))
    held["optional"] = optional
    if items:
        held["items"] = ITEMS
    return name


KINDS = [
    (resource, items, optional)
    for resource in RESOURCES
    for items in (False, True)
    for optional in (False, True)
]
VOLUMES = [
    {"name": f"v{number}", **source(resource, items=items, optional=optional)}
    for number, (resource, items, optional) in enumerate(KINDS)
]


class ObjectVolumes(RuleBasedStateMachine):
    """A pod with a volume of every sort, and the two objects that they are made from."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name)
        self.path = path / "memory" / "uid-1"
        self.held = Held()
        self.volumes = Volumes(path / "pods", path / "memory", lambda: PLACE, Mounts())
        self.pod = pod(*VOLUMES)
        self.objects: Objects = {}
        self.shown: dict[str, Files] = {}
        for resource in RESOURCES:
            self._put(resource, {"a": b"1", "b": b"2"})
        asyncio.run(self.volumes.prepare(self.pod, self.held))
        self._expect()

    def _put(self, resource: str, data: Files) -> None:
        self.objects[resource] = data
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        field = "binaryData" if resource == "configmaps" else "data"
        key = ObjectKey("", resource, "default", "x")
        self.held.objects[key] = {"metadata": {"name": "x"}, field: encoded}

    def _expect(self) -> None:
        for volume, (resource, items, optional) in zip(VOLUMES, KINDS, strict=True):
            now = chosen(self.objects.get(resource), items=items, optional=optional)
            if now is not None:
                self.shown[str(volume["name"])] = now

    def _refresh(self) -> None:
        with contextlib.suppress(VolumeError):
            self.volumes.refresh(self.pod, self.held)
        self._expect()

    @rule(resource=st.sampled_from(RESOURCES), data=DATA)
    def create_or_change(self, resource: str, data: Files) -> None:
        self._put(resource, data)
        self._refresh()

    @rule(resource=st.sampled_from(RESOURCES), data=DATA)
    def change_twice_before_anybody_looks(self, resource: str, data: Files) -> None:
        self._put(resource, {"c": b"never seen"})
        self._put(resource, data)
        self._refresh()

    @precondition(lambda self: self.objects)
    @rule(resource=st.sampled_from(RESOURCES))
    def delete(self, resource: str) -> None:
        self.objects.pop(resource, None)
        self.held.objects.pop(ObjectKey("", resource, "default", "x"), None)
        self._refresh()

    @rule(resource=st.sampled_from(RESOURCES), data=DATA)
    def delete_and_create_before_anybody_looks(self, resource: str, data: Files) -> None:
        self.held.objects.pop(ObjectKey("", resource, "default", "x"), None)
        self._put(resource, data)
        self._refresh()

    @rule()
    def the_agent_restarts(self) -> None:
        path = Path(self.directory.name)
        mounts = self.volumes._mounter
        self.volumes = Volumes(path / "pods", path / "memory", lambda: PLACE, mounts)
        self._refresh()

    @invariant()
    def every_volume_shows_what_it_must(self) -> None:
        for name, wanted in self.shown.items():
            directory = self.path / name
            found = {
                str(file.relative_to(directory)): file.read_bytes()
                for top in directory.iterdir()
                if not top.name.startswith("..")
                for file in (top.rglob("*") if top.is_dir() else [top])
                if file.is_file()
            }
            assert found == wanted, name
            assert len([one for one in directory.iterdir() if one.name.startswith("..2")]) == 1

    def teardown(self) -> None:
        self.directory.cleanup()


ObjectVolumes.TestCase.settings = settings(max_examples=8, stateful_step_count=15, deadline=None)
TestObjectVolumes = ObjectVolumes.TestCase
