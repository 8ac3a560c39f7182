# SPDX-License-Identifier: Apache-2.0
"""The roles that every cluster has from the start, with the names and meanings of Kubernetes.

``cluster-admin``, ``admin``, ``edit`` and ``view`` are for people and programs of the user's;
``system:*`` for what everybody who is known may read. What is there already is left as it is: an
operator's changes stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.bodies import OWN
from kedge.errors import AlreadyExists, NotFound

if TYPE_CHECKING:
    from kedge.cluster.apiserver.registry import Registry

GROUP = "rbac.authorization.k8s.io"
LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
READ = ["get", "list", "watch"]
CHANGE = ["create", "delete", "deletecollection", "patch", "update"]
EVERYBODY = "system:authenticated"

Rule = dict[str, list[str]]

_VIEWED = {
    "": [
        "bindings", "configmaps", "endpoints", "events", "limitranges", "namespaces", "namespaces/status",
        "persistentvolumeclaims", "persistentvolumeclaims/status", "pods", "pods/log", "pods/status",
        "replicationcontrollers", "replicationcontrollers/scale", "replicationcontrollers/status", "resourcequotas",
        "resourcequotas/status", "serviceaccounts", "services", "services/status",
    ],
    "apps": [
        "controllerrevisions", "daemonsets", "daemonsets/status", "deployments", "deployments/scale",
        "deployments/status", "replicasets", "replicasets/scale", "replicasets/status", "statefulsets",
        "statefulsets/scale", "statefulsets/status",
    ],
    "autoscaling": ["horizontalpodautoscalers", "horizontalpodautoscalers/status"],
    "batch": ["cronjobs", "cronjobs/status", "jobs", "jobs/status"],
    "discovery.k8s.io": ["endpointslices"],
    "metrics.k8s.io": ["nodes", "pods"],
    "networking.k8s.io": ["ingresses", "ingresses/status", "networkpolicies"],
    "policy": ["poddisruptionbudgets", "poddisruptionbudgets/status"],
}  # fmt: skip
"""What ``view`` reads: nothing that would let its holder become somebody else."""
_EDITED = {
    "": [
        "configmaps", "endpoints", "events", "persistentvolumeclaims", "pods", "replicationcontrollers",
        "replicationcontrollers/scale", "secrets", "serviceaccounts", "services",
    ],
    "apps": [
        "daemonsets", "deployments", "deployments/rollback", "deployments/scale", "replicasets", "replicasets/scale",
        "statefulsets", "statefulsets/scale",
    ],
    "autoscaling": ["horizontalpodautoscalers"],
    "batch": ["cronjobs", "jobs"],
    "coordination.k8s.io": ["leases"],
    "networking.k8s.io": ["ingresses", "networkpolicies"],
    "policy": ["poddisruptionbudgets"],
}  # fmt: skip
_STREAMS = ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"]


def _rule(verbs: list[str], group: str, resources: list[str]) -> Rule:
    return {"verbs": verbs, "apiGroups": [group], "resources": resources}


def _urls(*paths: str) -> Rule:
    return {"verbs": ["get"], "nonResourceURLs": list(paths)}


VIEW = [_rule(READ, group, resources) for group, resources in _VIEWED.items()]
EDIT = [
    *VIEW,
    *[_rule(READ + CHANGE, group, resources) for group, resources in _EDITED.items()],
    _rule([*READ, "create"], "", _STREAMS),
    _rule(["create"], "", ["pods/eviction", "serviceaccounts/token"]),
    _rule(["get", "patch", "update"], "", ["pods/ephemeralcontainers", "pods/resize"]),
    _rule(["impersonate"], "", ["serviceaccounts"]),
]
ADMIN = [
    *EDIT,
    _rule(["create"], "authorization.k8s.io", ["localsubjectaccessreviews"]),
    _rule(READ + CHANGE, GROUP, ["rolebindings", "roles"]),
]
_CERTIFICATES = "certificates.k8s.io"
_REQUESTS = "certificatesigningrequests"


def _approver(signer: str) -> list[Rule]:
    rule = _rule(["approve"], _CERTIFICATES, ["signers"])
    return [{**rule, "resourceNames": [f"kubernetes.io/{signer}"]}]


_VERSION = ("/healthz", "/livez", "/readyz", "/version", "/version/")
ROLES: dict[str, list[Rule]] = {
    "cluster-admin": [
        _rule(["*"], "*", ["*"]),
        {"verbs": ["*"], "nonResourceURLs": ["*"]},
    ],
    "admin": ADMIN,
    "edit": EDIT,
    "view": VIEW,
    "system:auth-delegator": [
        _rule(["create"], "authentication.k8s.io", ["tokenreviews"]),
        _rule(["create"], "authorization.k8s.io", ["subjectaccessreviews"]),
    ],
    "system:basic-user": [
        _rule(["create"], "authentication.k8s.io", ["selfsubjectreviews"]),
        _rule(
            ["create"],
            "authorization.k8s.io",
            ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        ),
    ],
    **{
        f"system:certificates.k8s.io:{_REQUESTS}:{name}": [
            _rule(["create"], _CERTIFICATES, [f"{_REQUESTS}/{name}"])
        ]
        for name in ("nodeclient", "selfnodeclient")
    },
    **{
        f"system:certificates.k8s.io:{signer}-approver": _approver(signer)
        for signer in (
            "kube-apiserver-client",
            "kube-apiserver-client-kubelet",
            "kubelet-serving",
            "legacy-unknown",
        )
    },
    "system:discovery": [
        _urls("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", *_VERSION)
    ],
    "system:monitoring": [_urls("/metrics", "/metrics/slis", *_VERSION)],
    "system:node-bootstrapper": [
        _rule(["create", "get", "list", "watch"], _CERTIFICATES, [_REQUESTS])
    ],
    "system:public-info-viewer": [_urls(*_VERSION)],
}
BINDINGS = {
    "cluster-admin": "system:masters",
    "system:basic-user": EVERYBODY,
    "system:discovery": EVERYBODY,
    "system:monitoring": "system:monitoring",
    "system:public-info-viewer": EVERYBODY,
}
"""Which group has which of the roles."""


async def prepare(registry: Registry) -> None:
    """Creates the roles and bindings that are absent."""
    for name, rules in ROLES.items():
        await _ensure(registry, "clusterroles", name, {"rules": rules})
    for name, group in BINDINGS.items():
        reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}
        subject = {"apiGroup": GROUP, "kind": "Group", "name": group}
        binding = {"roleRef": reference, "subjects": [subject]}
        await _ensure(registry, "clusterrolebindings", name, binding)


async def _ensure(registry: Registry, resource: str, name: str, body: dict[str, Any]) -> None:
    key = ObjectKey(GROUP, resource, "", name)
    try:
        registry.get(key)
    except NotFound:
        try:
            await registry.create(key, {"metadata": {"name": name, "labels": LABELS}, **body}, OWN)
        except AlreadyExists:
            return
