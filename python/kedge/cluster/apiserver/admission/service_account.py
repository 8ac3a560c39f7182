# SPDX-License-Identifier: Apache-2.0
"""ServiceAccount: whose pod it is, the account's pull secrets, and its token for every container.

An account may say that its pods mount only the Secrets that it names. Mirror pods have no account and no Secrets.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import names, static_pods
from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.admission.write import CREATE, UPDATE, Plugin, Write, is_core

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kedge.api.kinds import Kind
    from kedge.store import Store

Object = dict[str, Any]

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - where tokens are mounted
TOKEN_SECONDS = 3607
"""What pods' own tokens live; the odd number tells them from those that somebody asked for."""
WAIT_SECONDS = 1.0
_POLL_SECONDS = 0.05
_ONLY_NAMED = "kubernetes.io/enforce-mountable-secrets"
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_WORDS = {"initContainers": "init container", "containers": "container"}


class ServiceAccount(Plugin):
    """The plugin."""

    operations = (CREATE, UPDATE)

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._strict: set[tuple[str, str]] | None = None

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a pod, new or with new ephemeral containers."""
        return is_core(kind, "pods") and subresource in ("", "ephemeralcontainers")

    async def admit(self, write: Write) -> None:
        """Completes a pod from its account.

        Raises:
            Forbidden: there is no such account.
        """
        pod = write.obj
        if write.operation != CREATE or _is_mirror(pod):
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

    async def validate(self, write: Write) -> None:
        """Refuses.

        Raises:
            Forbidden: a pod uses what its account, or a mirror, may not.
        """
        spec = write.obj["spec"]
        if write.operation == CREATE and _is_mirror(write.obj):
            if spec.get("serviceAccountName"):
                raise write.forbidden("a mirror pod may not reference service accounts")
            if next(_secrets(spec), None) or spec.get("imagePullSecrets"):
                raise write.forbidden("a mirror pod may not reference secrets")
            if any(_has_token(volume) for volume in spec.get("volumes") or ()):
                why = "a mirror pod may not use ServiceAccountToken volume projections"
                raise write.forbidden(why)
            return
        if write.operation == UPDATE and not write.subresource:
            return
        owner = (write.key.namespace, spec.get("serviceAccountName", ""))
        if owner not in self._strict_ones():
            return
        found = self.store.get(ObjectKey("", "serviceaccounts", *owner))
        if found is not None:
            why = beyond(orjson.loads(found.value), spec, is_new=write.operation == CREATE)
            if why:
                raise write.forbidden(why)

    def written(self, key: ObjectKey) -> None:
        """Remembers accounts that let their pods use only what they name."""
        if key.resource == "serviceaccounts" and not key.group and self._strict is not None:
            found = self.store.get(key)
            if found is not None and _ONLY_NAMED.encode() in found.value:
                self._strict.add((key.namespace, key.name))
            else:
                self._strict.discard((key.namespace, key.name))

    def _strict_ones(self) -> set[tuple[str, str]]:
        if self._strict is None:
            rows = self.store.list("", "serviceaccounts").items
            marked = [row.key for row in rows if _ONLY_NAMED.encode() in row.value]
            self._strict = {(key.namespace, key.name) for key in marked}
        return self._strict

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


def _is_mirror(pod: Object) -> bool:
    return static_pods.MIRROR in (pod["metadata"].get("annotations") or ())


def _has_token(volume: Object) -> bool:
    sources = (volume.get("projected") or {}).get("sources") or ()
    return any("serviceAccountToken" in one for one in sources)


def beyond(account: Object, spec: Object, *, is_new: bool) -> str:
    """What a pod refers to that its account does not name, if the account wants that; pure.

    Args:
        account: the ServiceAccount.
        spec: the pod's.
        is_new: whether all of the pod is looked at, or its ephemeral containers only.
    """
    notes = account["metadata"].get("annotations") or {}
    if notes.get(_ONLY_NAMED) not in _TRUE:
        return ""
    owner = account["metadata"]["name"]
    named = {one.get("name") for one in account.get("secrets") or ()}
    words = _WORDS if is_new else {"ephemeralContainers": "ephemeral container"}
    for what, secret in _secrets(spec, words, volumes=is_new):
        if secret not in named:
            reference = f'secret.secretName="{secret}"'
            return f"{what} {reference} is not allowed because service account {owner} does not reference that secret"
    pulled = {one.get("name") for one in account.get("imagePullSecrets") or ()}
    for one in spec.get("imagePullSecrets") or () if is_new else ():
        name = one.get("name", "")
        if name not in pulled:
            return (
                f'imagePullSecret.name="{name}" is not allowed because service account {owner} does not '
                "reference that imagePullSecret"
            )
    return ""


def _secrets(
    spec: Object, words: dict[str, str] = _WORDS, *, volumes: bool = True
) -> Iterator[tuple[str, str]]:
    """The Secrets that a pod refers to, and in which words."""
    for volume in spec.get("volumes") or () if volumes else ():
        name = (volume.get("secret") or {}).get("secretName")
        if name:
            yield "volume with", name
    for field, kind in words.items():
        for container in spec.get(field) or ():
            who = f"{kind} {container.get('name', '')}"
            for one in container.get("env") or ():
                key = (one.get("valueFrom") or {}).get("secretKeyRef")
                if key:
                    yield (
                        f"{who} with envVar {one.get('name', '')} referencing",
                        key.get("name", ""),
                    )
            for one in container.get("envFrom") or ():
                if one.get("secretRef"):
                    yield f"{who} with envFrom referencing", one["secretRef"].get("name", "")


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
