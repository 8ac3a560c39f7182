# SPDX-License-Identifier: Apache-2.0
"""Images on the node: pull policy, one pull at a time per image, registry credentials.

Twenty pods of one image pull it once. Whether and when to try again is the plan's to say.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from typing import TYPE_CHECKING, Any, ClassVar

from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.edge.runtime import ContainerRuntime, Image

MAX_PARALLEL_PULLS = 3
_DEFAULT_REGISTRY = "docker.io"


class ImagePullError(RuntimeFailure):
    """The image could not be pulled."""

    reason: ClassVar[str] = "ErrImagePull"


class ImageNeverPullError(RuntimeFailure):
    """The image is absent and the policy forbids pulling."""

    reason: ClassVar[str] = "ErrImageNeverPull"


def pull_policy(container: dict[str, Any]) -> str:
    """The container's policy; without one, ``Always`` for the tag ``latest`` only."""
    if container.get("imagePullPolicy"):
        return str(container["imagePullPolicy"])
    reference = container.get("image", "")
    if "@" in reference:
        return "IfNotPresent"
    last = reference.rsplit("/", 1)[-1]
    tag = last.partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def registry(reference: str) -> str:
    """The registry host of an image reference."""
    first, slash, _ = reference.partition("/")
    is_host = "." in first or ":" in first or first == "localhost"
    return first if slash and is_host else _DEFAULT_REGISTRY


def credentials(reference: str, secrets: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The runtime's ``AuthConfig`` for an image, from image pull Secrets; the first that fits.

    Entries match by registry host; ``https://index.docker.io/v1/`` means docker.io. A Secret that
    cannot be read counts as having none.
    """
    wanted = registry(reference)
    for secret in secrets:
        for host, entry in _entries(secret).items():
            bare = host.removeprefix("https://").removeprefix("http://").split("/", 1)[0]
            bare = (
                _DEFAULT_REGISTRY if bare in ("index.docker.io", "registry-1.docker.io") else bare
            )
            if bare == wanted and isinstance(entry, dict):
                return _auth(entry)
    return None


def _entries(secret: dict[str, Any]) -> dict[str, Any]:
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            found = json.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths")
        else:
            found = json.loads(base64.b64decode(data.get(".dockercfg", "e30=")))
    except (ValueError, AttributeError, binascii.Error):
        return {}
    return found if isinstance(found, dict) else {}


def _auth(entry: dict[str, Any]) -> dict[str, Any]:
    username, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth") and not username:
        try:
            username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except ValueError:
            username, password = "", ""
    return {
        "username": username,
        "password": password,
        "identity_token": entry.get("identitytoken", ""),
        "registry_token": entry.get("registrytoken", ""),
    }


class Images:
    """Makes sure that images are on the node.

    Args:
        runtime: has and pulls them.

    ``pulled`` and ``last_used`` say when, by id, since the agent started; ``changes`` counts.
    """

    def __init__(self, runtime: ContainerRuntime) -> None:
        self._runtime = runtime
        self._pulls: dict[str, asyncio.Lock] = {}
        self._limit = asyncio.Semaphore(MAX_PARALLEL_PULLS)
        self.pulled: dict[str, float] = {}
        self.last_used: dict[str, float] = {}
        self.changes = 0

    def use(self, image_id: str) -> None:
        """Remembers that an image is in use now."""
        self.last_used[image_id] = time.time()

    def forget(self, image_id: str) -> None:
        """An image is gone."""
        self.pulled.pop(image_id, None)
        self.last_used.pop(image_id, None)
        self.changes += 1

    async def present(self, container: dict[str, Any]) -> Image | None:
        """The image if it is here and the policy lets it be used as it is.

        Raises:
            ImageNeverPullError: it is absent and may not be pulled.
        """
        policy, reference = pull_policy(container), container.get("image", "")
        if policy == "Always":
            return None
        found = await self._runtime.image_status(reference)
        if found is None and policy == "Never":
            raise ImageNeverPullError(
                f'Container image "{reference}" is not present with pull policy of Never'
            )
        return found

    async def pull(self, container: dict[str, Any], auth: dict[str, Any] | None) -> Image:
        """Pulls the image; others that want it meanwhile wait and find it.

        Raises:
            ImagePullError: the registry or the runtime refused.
        """
        reference = container.get("image", "")
        lock = self._pulls.setdefault(reference, asyncio.Lock())
        try:
            async with lock:
                if pull_policy(container) != "Always":
                    found = await self._runtime.image_status(reference)
                    if found is not None:
                        return found
                async with self._limit:
                    return await self._pull(reference, auth)
        finally:
            if not lock.locked():
                self._pulls.pop(reference, None)

    async def _pull(self, reference: str, auth: dict[str, Any] | None) -> Image:
        try:
            await self._runtime.pull_image(reference, auth)
            found = await self._runtime.image_status(reference)
        except RuntimeFailure as error:
            raise ImagePullError(f'failed to pull image "{reference}": {error}') from error
        if found is None:
            raise ImagePullError(
                f'failed to pull image "{reference}": it is not there after the pull'
            )
        self.pulled[found.id] = time.time()
        self.changes += 1
        return found
