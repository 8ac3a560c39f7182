# SPDX-License-Identifier: Apache-2.0
"""Images on the node: pull policy, one pull at a time per image, so many at a time in all.

Twenty pods of one image pull it once. Whether and when to try again is the plan's to say; the runtime
goes on where a broken pull ended. Credentials are found in ``registries``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from kedge.edge.kubelet.objects import secret
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kedge.edge.kubelet.objects import Objects
    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.runtime import ContainerRuntime, Image

MAX_PARALLEL_PULLS = 3
_UNAVAILABLE = (
    "RegistryUnavailable",
    "connection refused",
    "no such host",
    "network is unreachable",
)
"""Words of runtimes for a registry that does not answer at all."""


class ImagePullError(RuntimeFailure):
    """The image could not be pulled."""

    reason: ClassVar[str] = "ErrImagePull"


class RegistryUnavailableError(ImagePullError):
    """The registry does not answer."""

    reason: ClassVar[str] = "RegistryUnavailable"


class InvalidImageNameError(ImagePullError):
    """The reference is none."""

    reason: ClassVar[str] = "InvalidImageName"


class ImageNeverPullError(RuntimeFailure):
    """The image is absent and the policy forbids pulling."""

    reason: ClassVar[str] = "ErrImageNeverPull"


class Pulled(NamedTuple):
    """An image that is here now, and how long its pull took without waiting for others."""

    image: Image
    seconds: float


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


def event(reference: str, error: RuntimeFailure) -> tuple[str, str]:
    """Reason and message of the Event about an image that cannot be had."""
    match error:
        case ImageNeverPullError():
            return error.reason, str(error)
        case InvalidImageNameError():
            return "InspectFailed", f'Failed to apply default image tag "{reference}": {error}'
        case RegistryUnavailableError():
            text = f"image pull failed for {reference} because the registry is unavailable"
            return "Failed", f'Failed to pull image "{reference}": {text}: {error}'
    return "Failed", f'Failed to pull image "{reference}": {error}'


def check_reference(reference: str) -> None:
    """Refuses what no registry could have.

    Raises:
        InvalidImageNameError: it is not ``[HOST[:PORT]/]NAME[:TAG][@DIGEST]``.
    """
    name, _, digest = reference.partition("@")
    last = name.rsplit("/", 1)[-1]
    bare, colon, tag = last.partition(":")
    path = name[: len(name) - len(last)] + bare
    first, slash, rest = path.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        path = rest
    why = ""
    if path != path.lower():
        why = "repository name must be lowercase"
    elif not path or len(name) > 255 or not all(map(_is_component, path.split("/"))):
        why = "wanted names of letters, digits, dots, dashes and underscores"
    elif (colon and not _is_tag(tag)) or ("@" in reference and not _is_digest(digest)):
        why = "wanted a tag or digest after its mark"
    if why:
        raise InvalidImageNameError(
            f'couldn\'t parse image name "{reference}": invalid reference format: {why}'
        )


def _is_component(text: str) -> bool:
    plain = text.replace("-", "").replace("_", "").replace(".", "")
    ends = text[:1].isalnum() and text[-1:].isalnum()
    return plain.isalnum() and plain.isascii() and ends and ".." not in text


def _is_tag(text: str) -> bool:
    plain = text.replace("-", "").replace("_", "").replace(".", "")
    is_word = plain.isascii() and (plain.isalnum() or not plain)
    return 0 < len(text) <= 128 and is_word and text[0] not in "-."


def _is_digest(text: str) -> bool:
    algorithm, _, value = text.partition(":")
    return bool(algorithm) and len(value) >= 32 and all(one in "0123456789abcdef" for one in value)


class Images:
    """Makes sure that images are on the node.

    Args:
        runtime: has and pulls them.
        parallel: how many pulls there may be at a time.
        credentials: the node's own file of them; empty for none.

    ``pulled`` and ``last_used`` say when, by id, since the agent started; ``changes`` counts.
    """

    def __init__(
        self,
        runtime: ContainerRuntime,
        parallel: int = MAX_PARALLEL_PULLS,
        credentials: str = "",
    ) -> None:
        self._runtime = runtime
        self._credentials = credentials
        self._pulls: dict[str, asyncio.Lock] = {}
        self._limit = asyncio.Semaphore(parallel)
        self._running = 0
        self._mountpoint: str | None = None
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

    def auths(self, pod: Pod, objects: Objects, reference: str) -> list[dict[str, Any]]:
        """Credentials that may fit an image: the pod's, then the node's."""
        # Most pods start with an image that is here.
        from kedge.edge.kubelet.images import registries  # noqa: PLC0415

        namespace = pod["metadata"]["namespace"]
        named = [one.get("name", "") for one in pod["spec"].get("imagePullSecrets") or []]
        found = [objects.get(secret(namespace, name)) for name in named]
        configs = [registries.of_secret(one) for one in found if one is not None]
        configs.append(registries.of_file(self._credentials))
        return registries.candidates(reference, configs)

    async def present(self, container: dict[str, Any]) -> Image | None:
        """The image if it is here and the policy lets it be used as it is.

        Raises:
            InvalidImageNameError: its name is none.
            ImageNeverPullError: it is absent and may not be pulled.
        """
        policy, reference = pull_policy(container), container.get("image", "")
        check_reference(reference)
        if policy == "Always":
            return None
        found = await self._runtime.image_status(reference)
        if found is None and policy == "Never":
            raise ImageNeverPullError(
                f'Container image "{reference}" is not present with pull policy of Never'
            )
        return found

    async def pull(
        self,
        container: dict[str, Any],
        auths: Sequence[dict[str, Any]],
        say: Callable[[str], None] = lambda _: None,
    ) -> Pulled:
        """Pulls the image; others that want it meanwhile wait and find it.

        Args:
            container: its spec.
            auths: credentials that may fit, each tried in turn; without any it is asked for openly.
            say: told now and then how far a long pull is.

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
                        return Pulled(found, 0.0)
                async with self._limit:
                    return await self._pull(reference, auths, say)
        finally:
            if not lock.locked():
                self._pulls.pop(reference, None)

    async def _pull(
        self, reference: str, auths: Sequence[dict[str, Any]], say: Callable[[str], None]
    ) -> Pulled:
        # Most starts need no pull.
        from kedge.edge.kubelet.images.progress import Progress  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        began = loop.time()
        progress = Progress(say, await self._images_are_at(), lambda: self._running)
        self._running += 1
        try:
            await self._try_each(reference, auths)
            found = await self._runtime.image_status(reference)
        except ImagePullError:
            raise
        except RuntimeFailure as error:
            raise ImagePullError(str(error)) from error
        finally:
            self._running -= 1
            progress.stop()
        if found is None:
            raise ImagePullError("it is not there after the pull")
        self.pulled[found.id] = time.time()
        self.changes += 1
        return Pulled(found, loop.time() - began)

    async def _try_each(self, reference: str, auths: Sequence[dict[str, Any]]) -> None:
        failures: list[str] = []
        for auth in auths or (None,):
            try:
                await self._runtime.pull_image(reference, auth)
            except RuntimeFailure as error:
                failures.append(str(error) or error.reason)
            else:
                return
        text = "; ".join(dict.fromkeys(failures))
        kind = ImagePullError
        if all(any(word in one for word in _UNAVAILABLE) for one in failures):
            kind = RegistryUnavailableError
        raise kind(text)

    async def _images_are_at(self) -> str:
        """Where the runtime keeps images; asked once."""
        if self._mountpoint is None:
            try:
                found = await self._runtime.image_filesystems()
            except RuntimeFailure:
                return ""
            self._mountpoint = found[0].mountpoint if found else ""
        return self._mountpoint
