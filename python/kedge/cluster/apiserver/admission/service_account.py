# SPDX-License-Identifier: Apache-2.0
"""ServiceAccount: whose pod it is, the account's pull secrets, and its token for every container."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import names, static_pods
from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.admission.write import Plugin, Write, is_core

if TYPE_CHECKING:
    from kedge.api.kinds import Kind

Object = dict[str, Any]

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - where tokens are mounted
TOKEN_SECONDS = 3607
"""What pods' own tokens live; the odd number tells them from those that somebody asked for."""
WAIT_SECONDS = 1.0
_POLL_SECONDS = 0.05


class ServiceAccount(Plugin):
    """The plugin."""

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a pod."""
        return is_core(kind, "pods") and not subresource

    async def admit(self, write: Write) -> None:
        """Completes a pod from its account.

        Raises:
            Forbidden: there is no such account.
        """
        pod = write.obj
        if static_pods.MIRROR in pod["metadata"].get("annotations", ()):
            return
        spec = pod["spec"]
        name = spec.get("serviceAccountName") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(write, name)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]
        if spec.get(
            "automountServiceAccountToken", account.get("automountServiceAccountToken", True)
        ):
            mount_token(spec)

    async def _account(self, write: Write, name: str) -> Object:
        """The account; waits a moment for it, since controllers make it after its namespace."""
        namespace = write.key.namespace
        wanted = ObjectKey("", "serviceaccounts", namespace, name)
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        while (found := self.store.get(wanted)) is None:
            if asyncio.get_running_loop().time() >= deadline:
                why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
                raise write.forbidden(why)
            await asyncio.sleep(_POLL_SECONDS)
        account: Object = orjson.loads(found.value)
        return account


def mount_token(spec: Object) -> None:
    """Gives every container that has nothing at ``TOKEN_PATH`` the account's token there."""
    containers = [*spec.get("initContainers", ()), *spec.get("containers", ())]
    bare = [one for one in containers if not _mounts(one, TOKEN_PATH)]
    if not bare:
        return
    volume = next(
        (
            one["name"]
            for one in spec.get("volumes", ())
            if one["name"].startswith("kube-api-access-")
        ),
        "",
    )
    if not volume:
        volume = names.generated("kube-api-access-")
        spec.setdefault("volumes", []).append({"name": volume, "projected": _token_sources()})
    for container in bare:
        mount = {"name": volume, "readOnly": True, "mountPath": TOKEN_PATH}
        container.setdefault("volumeMounts", []).append(mount)


def _mounts(container: Object, path: str) -> bool:
    return any(mount.get("mountPath") == path for mount in container.get("volumeMounts", ()))


def _token_sources() -> Object:
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {
                "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }
            },
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
        ],
        "defaultMode": 420,
    }
