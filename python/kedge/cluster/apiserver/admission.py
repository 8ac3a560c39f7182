# SPDX-License-Identifier: Apache-2.0
"""What is decided about an object before it is stored, beyond its own fields.

NamespaceLifecycle, ServiceAccount (the account's token volume), RuntimeClass,
DefaultTolerationSeconds, Priority, DefaultStorageClass and PersistentVolumeClaimResize, as kube-apiserver
has them on by default.
``Admission`` reads the store and changes the object; it writes nothing, and is told of what others write.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import names, quantities
from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver import failures, priorities, runtime_class
from kedge.cluster.apiserver.priorities import Priorities
from kedge.errors import NotFound

if TYPE_CHECKING:
    from kedge.api.kinds import Kind
    from kedge.store import Store

Object = dict[str, Any]

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - where tokens are mounted
TOKEN_SECONDS = 3607
"""What pods' own tokens live; the odd number tells them from those that somebody asked for."""
DEFAULT_TOLERATION_SECONDS = 300
IMMORTAL_NAMESPACES = ("default", "kube-system", "kube-public")
WAIT_FOR_ACCOUNT_SECONDS = 1.0
_POLL_SECONDS = 0.05
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_CANNOT_GROW = (
    "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
    "support resize"
)
_MIRROR = "kubernetes.io/config.mirror"
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class Admission:
    """The admission chain.

    Args:
        store: where namespaces and accounts are looked up.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._priorities = Priorities(store)

    async def create(self, kind: Kind, key: ObjectKey, obj: Object) -> None:
        """Admits a new object, completing it.

        Raises:
            NotFound: its namespace does not exist.
            Forbidden: its namespace goes away, or its account or priority class does not exist.
        """
        if kind.namespaced:
            self._namespace(kind, key)
        if kind.resource == "pods" and not kind.group:
            await self._service_account(kind, key, obj)
            self._runtime_class(kind, key, obj["spec"])
            _tolerations(obj["spec"])
            self._priorities.resolve(kind, key, obj["spec"])
        if kind.resource == "persistentvolumeclaims" and not kind.group:
            self._storage_class(obj)

    def _storage_class(self, claim: Object) -> None:
        """DefaultStorageClass: a claim that names none gets the newest that is marked as the default."""
        if "storageClassName" in claim.get("spec", {}):
            return
        found = []
        for item in self._store.list("storage.k8s.io", "storageclasses").items:
            metadata = orjson.loads(item.value)["metadata"]
            if (metadata.get("annotations") or {}).get(_DEFAULT_CLASS) == "true":
                found.append((metadata.get("creationTimestamp", ""), metadata["name"]))
        if found:
            claim["spec"]["storageClassName"] = max(found)[1]

    def update(self, kind: Kind, key: ObjectKey, new: Object, old: Object) -> None:
        """Admits a change.

        Raises:
            Forbidden: a claim is to grow whose class does not let it.
        """
        if kind.resource == "persistentvolumeclaims" and not kind.group and _grows(new, old):
            name = old["spec"].get("storageClassName") or ""
            found = self._store.get(ObjectKey("storage.k8s.io", "storageclasses", "", name))
            if found is None or orjson.loads(found.value).get("allowVolumeExpansion") is not True:
                raise failures.forbidden(kind, key.name, _CANNOT_GROW)

    def written(self, key: ObjectKey) -> None:
        """Takes note that an object was written or removed."""
        if (key.group, key.resource) == (priorities.GROUP, priorities.RESOURCE):
            self._priorities.forget()

    def delete(self, kind: Kind, key: ObjectKey) -> None:
        """Admits a delete.

        Raises:
            Forbidden: the namespace is one that must stay.
        """
        if kind.resource == "namespaces" and key.name in IMMORTAL_NAMESPACES:
            raise failures.forbidden(kind, key.name, "this namespace may not be deleted")

    def _namespace(self, kind: Kind, key: ObjectKey) -> None:
        found = self._store.get(ObjectKey("", "namespaces", "", key.namespace))
        if found is None:
            raise NotFound(
                f'namespaces "{key.namespace}" not found',
                {"name": key.namespace, "kind": "namespaces"},
            )
        if (
            b'"deletionTimestamp"' in found.value
            and "deletionTimestamp" in orjson.loads(found.value)["metadata"]
        ):
            why = f"unable to create new content in namespace {key.namespace} because it is being terminated"
            error = failures.forbidden(kind, key.name, why)
            error.details = failures.details(kind, key.name)
            error.details["causes"] = [
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {key.namespace} is being terminated",
                    "field": "metadata.namespace",
                }
            ]
            raise error

    async def _service_account(self, kind: Kind, key: ObjectKey, pod: Object) -> None:
        if _MIRROR in pod["metadata"].get("annotations", ()):
            return
        spec = pod["spec"]
        name = spec.get("serviceAccountName") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(kind, key, name)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]
        if spec.get(
            "automountServiceAccountToken", account.get("automountServiceAccountToken", True)
        ):
            mount_token(spec)

    def _runtime_class(self, kind: Kind, key: ObjectKey, spec: Object) -> None:
        """Gives a pod its runtime class's overhead and its place among nodes."""
        name = spec.get("runtimeClassName")
        if not name:
            if spec.get("overhead"):
                why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                raise failures.forbidden(kind, key.name, why)
            return
        found = self._store.get(ObjectKey("node.k8s.io", "runtimeclasses", "", name))
        if found is None:
            why = f'pod rejected: RuntimeClass "{name}" not found'
            raise failures.forbidden(kind, key.name, why)
        problem = runtime_class.apply(orjson.loads(found.value), spec)
        if problem:
            raise failures.forbidden(kind, key.name, problem)

    async def _account(self, kind: Kind, key: ObjectKey, name: str) -> Object:
        """The account; waits a moment for it, since controllers make it after its namespace."""
        wanted = ObjectKey("", "serviceaccounts", key.namespace, name)
        deadline = asyncio.get_running_loop().time() + WAIT_FOR_ACCOUNT_SECONDS
        while (found := self._store.get(wanted)) is None:
            if asyncio.get_running_loop().time() >= deadline:
                why = f'error looking up service account {key.namespace}/{name}: serviceaccount "{name}" not found'
                raise failures.forbidden(kind, key.name, why)
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


def _tolerations(spec: Object) -> None:
    """Says how long a pod stays on a node that is away, as upstream does; no controller here evicts."""
    tolerations = spec.setdefault("tolerations", [])
    for taint in _TAINTS:
        if not any(_tolerates(one, taint) for one in tolerations):
            tolerations.append(
                {
                    "key": taint,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": DEFAULT_TOLERATION_SECONDS,
                }
            )


def _tolerates(toleration: Object, taint: str) -> bool:
    return toleration.get("key") in (taint, None, "") and toleration.get("effect") in (
        "NoExecute",
        None,
        "",
    )


def _grows(new: Object, old: Object) -> bool:
    """Whether a claim asks for more than before."""
    amounts = [
        one.get("spec", {}).get("resources", {}).get("requests", {}).get("storage")
        for one in (new, old)
    ]
    if None in amounts or amounts[0] == amounts[1]:
        return False
    return quantities.parse(amounts[0]) > quantities.parse(amounts[1])
