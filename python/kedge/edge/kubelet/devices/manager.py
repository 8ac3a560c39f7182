# SPDX-License-Identifier: Apache-2.0
"""All device plugins of the node: registration, counts, and who gets which devices.

A plugin is followed by a task of its own; what it lists is the resource's capacity. A pod's devices are
chosen when it is admitted, one pod at a time per resource, written to the checkpoint with what the
plugin wants of the container, and freed when nothing of the pod is left. A plugin that fails or hangs
fails the pods that ask for its devices and no others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from kedge.api.extended import is_extended
from kedge.edge.kubelet.devices import extended
from kedge.edge.kubelet.devices.checkpoint import Checkpoint
from kedge.edge.kubelet.devices.edits import Edits, merged
from kedge.edge.kubelet.devices.endpoint import GRACE_SECONDS, Endpoint, choose
from kedge.edge.kubelet.plugins.errors import UNAVAILABLE, PluginCallError, PluginRefusedError
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from kedge.edge.kubelet.plugins.face import PluginClient
    from kedge.edge.kubelet.pod.state import Pod

VERSION = "v1beta1"
ALLOCATE_SECONDS = 30.0
PRE_START_SECONDS = 30.0
CONNECT_SECONDS = 10.0
SETTLE_SECONDS = 30.0
"""After the agent's start: plugins register again, and a pod that wants their devices waits so long."""
CONNECT_AGAIN_SECONDS = 0.2

_log = logging.getLogger(__name__)


class AdmissionRefusedError(KedgeError):
    """The pod must not run here: its devices cannot be had."""

    reason: ClassVar[str] = "UnexpectedAdmissionError"

    def __init__(self, why: str) -> None:
        super().__init__(f"Allocate failed due to {why}, which is unexpected")


class DevicesAwayError(KedgeError):
    """The pod has devices whose plugin is not back yet; it waits."""

    reason: ClassVar[str] = "DevicesUnavailable"
    retryable: ClassVar[bool] = True


class Devices:
    """The node's device plugins.

    Args:
        client: calls them.
        checkpoint: the file of who has what.
        spawn: runs a task for as long as the agent runs.
        changed: told when counts have changed.
        active: UIDs of the pods that have not ended; None while they are not all known.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        client: PluginClient,
        checkpoint: Path,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        changed: Callable[[], None],
        active: Callable[[], set[str] | None] = lambda: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._checkpoint = Checkpoint(checkpoint)
        self._spawn = spawn
        self._changed = changed
        self._active = active
        self._clock = clock
        self._settled_at = clock() + SETTLE_SECONDS
        self._locks: dict[str, asyncio.Lock] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self.endpoints = {
            resource: Endpoint(resource, stopped_at=clock())
            for resource in self._checkpoint.resources
        }

    # plugins

    def register(self, resource: str, path: Path, version: str, options: dict[str, Any]) -> None:
        """Takes a plugin; one that offered the same resource before is let go.

        Raises:
            PluginRefusedError: its version or the resource's name is not what is wanted.
        """
        if version != VERSION:
            raise PluginRefusedError(
                f'requested API version "{version}" is not supported by kubelet. '
                f'Supported version is ["{VERSION}"]'
            )
        if not is_extended(resource):
            raise PluginRefusedError(f'the ResourceName "{resource}" is invalid')
        try:
            self._checkpoint.know(resource)
        except OSError as error:
            raise PluginRefusedError(f"the registration cannot be kept: {error}") from error
        before = self._following.pop(resource, None)
        if before is not None:
            before.cancel()
        old = self.endpoints.get(resource)
        endpoint = Endpoint(
            resource,
            str(path),
            pre_start=bool(options.get("pre_start_required")),
            prefers=bool(options.get("get_preferred_allocation_available")),
            health=dict.fromkeys(old.health, False) if old else {},
        )
        self.endpoints[resource] = endpoint
        _log.info("a device plugin registered resource=%s socket=%s", resource, path)
        self._following[resource] = self._spawn(self._follow(endpoint))

    async def _follow(self, endpoint: Endpoint) -> None:
        """Keeps a plugin's list current until its stream ends for good."""
        deadline = self._clock() + CONNECT_SECONDS
        while True:
            try:
                async for devices in self._client.list_and_watch(endpoint.path):
                    endpoint.listed(devices)
                    deadline = 0.0
                    self._changed()
            except KedgeError as error:
                # A plugin may register a moment before its own server listens.
                is_early = isinstance(error, PluginCallError) and error.code == UNAVAILABLE
                if is_early and self._clock() < deadline:
                    await asyncio.sleep(CONNECT_AGAIN_SECONDS)
                    continue
                _log.warning("device plugin %s has gone: %s", endpoint.resource, error)
                break
        self._client.forget(endpoint.path)
        endpoint.stopped_at = self._clock()
        self._changed()
        await asyncio.sleep(GRACE_SECONDS + 1)
        self._changed()

    def counts(self) -> tuple[dict[str, str], dict[str, str]]:
        """Capacity and allocatable of each resource that plugins offer or have offered."""
        now = self._clock()
        found = {name: one.counts(now) for name, one in self.endpoints.items()}
        return (
            {name: str(capacity) for name, (capacity, _) in found.items()},
            {name: str(allocatable) for name, (_, allocatable) in found.items()},
        )

    # pods

    async def admit(self, pod: Pod, *, is_running: bool) -> None:
        """Gives a pod its devices, or finds that it has them.

        Args:
            pod: its object.
            is_running: it runs already; nothing new is asked of a plugin that is away.

        Raises:
            AdmissionRefusedError: they cannot be had.
            DevicesAwayError: it has them, and their plugin is not back yet.
        """
        uid = pod["metadata"]["uid"]
        handed_on: dict[str, set[str]] = {}
        for container, wanted, hands_on in extended.containers(pod):
            for resource, count in wanted.items():
                endpoint = self.endpoints.get(resource)
                if endpoint is None:
                    # Not a plugin's: the scheduler alone counts it.
                    continue
                held = self._checkpoint.of(uid, container["name"]).get(resource)
                if held is not None and len(held["ids"]) == count:
                    if not is_running:
                        _check_present(endpoint, held["ids"])
                    ids = set(held["ids"])
                else:
                    reusable = handed_on.get(resource, set())
                    ids = await self._allocate(
                        uid, container["name"], self.endpoints[resource], count, reusable
                    )
                of_resource = handed_on.setdefault(resource, set())
                if hands_on:
                    of_resource |= ids
                else:
                    of_resource -= ids

    async def _allocate(
        self, uid: str, container: str, endpoint: Endpoint, count: int, reusable: set[str]
    ) -> set[str]:
        async with self._locks.setdefault(endpoint.resource, asyncio.Lock()):
            self._free_ended()
            ids = await self._choose(endpoint, count, reusable)
            request = {"container_requests": [{"device_ids": ids}]}
            try:
                answer = await self._client.call(
                    endpoint.path, "Allocate", request, ALLOCATE_SECONDS
                )
            except PluginCallError as error:
                raise AdmissionRefusedError(f"rpc error: {error}") from error
            edits = answer["container_responses"]
            if len(edits) != 1:
                raise AdmissionRefusedError(f"an answer for {len(edits)} containers instead of 1")
            try:
                self._checkpoint.put(
                    uid, container, endpoint.resource, {"ids": ids, "edits": edits[0]}
                )
            except OSError as error:
                raise AdmissionRefusedError(
                    f"a checkpoint that cannot be written: {error}"
                ) from error
        return set(ids)

    def _free_ended(self) -> None:
        """Takes devices back from pods that have ended, whether or not their objects are still there."""
        active = self._active()
        if active is None:
            return
        for uid in self._checkpoint.pods():
            if uid not in active:
                with suppress(OSError):
                    self._checkpoint.drop(uid)

    async def _choose(self, endpoint: Endpoint, count: int, reusable: set[str]) -> list[str]:
        healthy = endpoint.healthy()
        must = reusable & healthy
        free = (healthy - self._checkpoint.taken(endpoint.resource)) | must
        is_there = endpoint.is_listed and endpoint.stopped_at is None
        if len(free) < count and not is_there and self._clock() < self._settled_at:
            raise DevicesAwayError(f"{endpoint.resource}: its plugin is not registered yet")
        if len(free) < count:
            raise AdmissionRefusedError(
                f"requested number of devices unavailable for {endpoint.resource}. "
                f"Requested: {count}, Available: {len(free)}"
            )
        if endpoint.prefers and len(free) > count:
            preferred = await self._preferred(endpoint, count, free, must)
            if preferred is not None:
                return preferred
        return choose(count, free, must, endpoint.nodes)

    async def _preferred(
        self, endpoint: Endpoint, count: int, free: set[str], must: set[str]
    ) -> list[str] | None:
        """What the plugin would rather give; None when it does not say, or not what is free."""
        request = {
            "available_device_ids": sorted(free),
            "must_include_device_ids": sorted(must)[:count],
            "allocation_size": count,
        }
        try:
            answer = await self._client.call(
                endpoint.path,
                "GetPreferredAllocation",
                {"container_requests": [request]},
                ALLOCATE_SECONDS,
            )
        except PluginCallError as error:
            raise AdmissionRefusedError(f"rpc error: {error}") from error
        answers = answer["container_responses"]
        ids = list(dict.fromkeys(answers[0]["device_ids"])) if answers else []
        if len(ids) != count or not set(ids) <= free or not set(sorted(must)[:count]) <= set(ids):
            _log.warning("device plugin %s prefers what is not free", endpoint.resource)
            return None
        return ids

    async def edits(self, pod: Pod, container: dict[str, Any]) -> Edits | None:
        """What the plugins want of a container that is about to start; None when it has no devices.

        Raises:
            PluginCallError: a plugin that wants to be told of each start refused or failed.
        """
        held = self._checkpoint.of(pod["metadata"]["uid"], container["name"])
        for resource, one in held.items():
            endpoint = self.endpoints.get(resource)
            if endpoint is not None and endpoint.pre_start:
                request = {"device_ids": one["ids"]}
                await self._client.call(
                    endpoint.path, "PreStartContainer", request, PRE_START_SECONDS
                )
        return merged([one["edits"] for one in held.values()]) if held else None

    def release(self, uid: str) -> None:
        """Frees the devices of a pod that has ended.

        Raises:
            OSError: the disk does not take it.
        """
        self._checkpoint.drop(uid)

    def left_over(self) -> list[str]:
        """UIDs of all pods that have devices."""
        return self._checkpoint.pods()

    def held(self, uid: str, container: str) -> dict[str, list[str]]:
        """The devices of a container by resource."""
        found = self._checkpoint.of(uid, container)
        return {resource: list(one["ids"]) for resource, one in found.items()}

    async def close(self) -> None:
        """Ends the following of plugins."""
        for task in self._following.values():
            task.cancel()
        for task in self._following.values():
            with suppress(asyncio.CancelledError):
                await task


def _check_present(endpoint: Endpoint, ids: list[str]) -> None:
    missing = sorted(set(ids) - endpoint.healthy())
    if missing:
        why = "its plugin is not registered" if endpoint.stopped_at is not None else "not healthy"
        raise DevicesAwayError(f"{endpoint.resource}: {', '.join(missing)}: {why}")
