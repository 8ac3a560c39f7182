# SPDX-License-Identifier: Apache-2.0
"""Requests to an API server, on objects named by ``ObjectKey``.

``run`` is the component that brings the answers; put it into the role's task group before the
first request. A refusal is raised as the ``ApiError`` subclass of the answer's reason, or of its code
when the reason is not ours; an answer that never came is ``Disconnected``.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode

from kedge import (
    _core,  # noqa: TID251 - this file is the face of _core.KubeClient
    errors,
)
from kedge.aio import batches
from kedge.api.keys import ObjectKey
from kedge.kube.kubeconfig import Cluster, load

if TYPE_CHECKING:
    from pathlib import Path

    from kedge.runtime import Runtime

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"

TOKEN_SECONDS = 60.0
"""How often a token file is read again."""

_WITH_REASON = [kind for kind in errors.ApiError.__subclasses__() if kind.reason]
_BY_REASON: dict[str, type[errors.ApiError]] = {kind.reason: kind for kind in _WITH_REASON}
_BY_CODE: dict[int, type[errors.ApiError]] = {
    kind.code: kind for kind in _WITH_REASON if kind is not errors.AlreadyExists
}


class KubeClient:
    """A client of one API server.

    Args:
        runtime: the process's runtime.
        cluster: where the server is and who we are.
    """

    def __init__(self, runtime: Runtime, cluster: Cluster) -> None:
        token = _read(cluster.token_file) if cluster.token_file else cluster.token
        self.cluster = cluster
        self.handle = _core.KubeClient(
            runtime,
            cluster.server,
            cluster.ca,
            cluster.certificate,
            cluster.key,
            token,
            cluster.server_name,
        )
        self._waiting: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._tickets = itertools.count(1)
        self.manager = ""

    @classmethod
    def from_kubeconfig(cls, runtime: Runtime, path: Path, context: str = "") -> Self:
        """A client of the server that a kubeconfig file names."""
        return cls(runtime, load(path, context))

    def acting_as(self, manager: str) -> Self:
        """The same client, owning the fields that it sets under another name than its program's."""
        other = copy.copy(self)
        other.manager = manager
        return other

    def _path(self, key: ObjectKey, subresource: str, version: str) -> str:
        path = path_of(key, subresource, version=version)
        return f"{path}?{urlencode({'fieldManager': self.manager})}" if self.manager else path

    async def run(self) -> None:
        """Brings answers until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self.cluster.token_file:
                group.create_task(self._renew_token(self.cluster.token_file))
            async for batch in batches(self.handle):
                for ticket, status, body in batch:
                    future = self._waiting.pop(ticket, None)
                    if future is not None and not future.done():
                        future.set_result((status, body))

    async def _renew_token(self, path: Path) -> None:
        while True:
            await asyncio.sleep(TOKEN_SECONDS)
            self.handle.set_token(await asyncio.to_thread(_read, path))

    async def raw(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        content_type: str = JSON,
        timeout_seconds: float = 30.0,
    ) -> tuple[int, bytes]:
        """Sends a request and gives the status and body, whatever they are.

        Raises:
            Disconnected: no answer came.
        """
        ticket = next(self._tickets)
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = future
        try:
            kind = content_type if body else ""
            self.handle.request(ticket, method, path, kind, body, round(timeout_seconds * 1000))
            status, answer = await future
        finally:
            self._waiting.pop(ticket, None)
        if status == 0:
            raise errors.Disconnected(answer.decode(errors="replace"))
        return status, answer

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = JSON,
        timeout_seconds: float = 30.0,
    ) -> dict[str, Any]:
        """Sends a request with a JSON body and gives the JSON object that comes back.

        Raises:
            ApiError: the server refused; the class tells the reason.
            Disconnected: no answer came.
        """
        sent = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        status, answer = await self.raw(
            method, path, sent, content_type=content_type, timeout_seconds=timeout_seconds
        )
        decoded = _decode(status, answer)
        if not 200 <= status < 300:
            raise refusal(status, decoded)
        return decoded

    async def get(
        self, key: ObjectKey, subresource: str = "", *, version: str = "v1"
    ) -> dict[str, Any]:
        """The object."""
        return await self.request("GET", path_of(key, subresource, version=version))

    async def list(
        self,
        group: str,
        resource: str,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        version: str = "v1",
    ) -> list[dict[str, Any]]:
        """All objects that match, fetched in pages."""
        path = path_of(ObjectKey(group, resource, namespace, ""), version=version)
        query = {"limit": "500"}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        found: list[dict[str, Any]] = []
        while True:
            page = await self.request("GET", f"{path}?{urlencode(query)}")
            found.extend(page.get("items") or [])
            query["continue"] = page.get("metadata", {}).get("continue") or ""
            if not query["continue"]:
                return found

    async def create(
        self, key: ObjectKey, obj: dict[str, Any], subresource: str = "", *, version: str = "v1"
    ) -> dict[str, Any]:
        """Creates an object, or posts to a subresource of one; without the latter only the key's type and namespace count."""
        target = key if subresource else key._replace(name="")
        return await self.request("POST", self._path(target, subresource, version), obj)

    async def update(
        self, key: ObjectKey, obj: dict[str, Any], subresource: str = "", *, version: str = "v1"
    ) -> dict[str, Any]:
        """Replaces the object."""
        return await self.request("PUT", self._path(key, subresource, version), obj)

    async def patch(
        self,
        key: ObjectKey,
        patch: object,
        *,
        content_type: str = MERGE,
        subresource: str = "",
        version: str = "v1",
    ) -> dict[str, Any]:
        """Changes parts of the object."""
        path = self._path(key, subresource, version)
        return await self.request("PATCH", path, patch, content_type=content_type)

    async def patch_status(
        self, key: ObjectKey, patch: object, *, content_type: str = MERGE, version: str = "v1"
    ) -> dict[str, Any]:
        """Changes parts of the object's status."""
        return await self.patch(
            key, patch, content_type=content_type, subresource="status", version=version
        )

    async def delete(
        self, key: ObjectKey, options: dict[str, Any] | None = None, *, version: str = "v1"
    ) -> dict[str, Any]:
        """Deletes the object; ``options`` are ``DeleteOptions`` (preconditions, gracePeriodSeconds)."""
        body = None if options is None else {"kind": "DeleteOptions", "apiVersion": "v1", **options}
        return await self.request("DELETE", path_of(key, version=version), body)


def path_of(key: ObjectKey, subresource: str = "", *, version: str = "v1") -> str:
    """The path of an object, or of its collection when the key has no name."""
    parts = ["", "apis", key.group, version] if key.group else ["", "api", version]
    if key.namespace:
        parts += ["namespaces", key.namespace]
    parts += [key.resource, key.name, subresource]
    return "/".join([quote(part, safe="") for part in parts]).rstrip("/")


def refusal(status: int, body: dict[str, Any]) -> errors.ApiError:
    """The exception of an answer that is no success."""
    reason = body.get("reason")
    kind = _BY_REASON.get(reason) if isinstance(reason, str) else None
    if kind is None:
        kind = _BY_CODE.get(status, errors.ApiError)
    details = body.get("details")
    message = str(body.get("message") or f"the API server answers {status}")
    return kind(message, details if isinstance(details, dict) else None)


def _decode(status: int, answer: bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(answer) if answer else {}
    except ValueError:
        decoded = {"message": answer[:200].decode(errors="replace").strip()}
        if 200 <= status < 300:
            raise errors.ApiError(f"answer is not JSON: {decoded['message']!r}") from None
    return decoded if isinstance(decoded, dict) else {}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
