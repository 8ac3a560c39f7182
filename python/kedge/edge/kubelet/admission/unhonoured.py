# SPDX-License-Identifier: Apache-2.0
"""What a pod asks for and does not get here, in words for an Event; pure.

``pod_fields`` knows every field. Most pods set only fields that are honoured everywhere, and for
them the table is never loaded: ``PLAIN`` has the names of those, and a test holds it against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kedge.edge.kubelet.pod.state import Pod

_NAMES = (
    "affinity args automountServiceAccountToken capabilities add drop command configMap configMapKeyRef "
    "configMapRef containerName containerPort containers defaultMode divisor dnsPolicy downwardAPI "
    "emptyDir enableServiceLinks env envFrom exec expirationSeconds failureThreshold fieldPath fieldRef "
    "fsGroup hostNetwork hostPath hostname httpGet httpHeaders image imagePullPolicy imagePullSecrets "
    "initContainers initialDelaySeconds items key livenessProbe medium mode mountPath name nodeName "
    "nodeSelector optional path periodSeconds port ports preemptionPolicy priority projected protocol "
    "readOnly readOnlyRootFilesystem readinessProbe resource resourceFieldRef resources restartPolicy "
    "runAsGroup runAsNonRoot runAsUser schedulerName scheme secret secretKeyRef secretName secretRef "
    "securityContext serviceAccount serviceAccountName serviceAccountToken sizeLimit sources startupProbe subPath "
    "successThreshold tcpSocket terminationGracePeriodSeconds terminationMessagePath "
    "terminationMessagePolicy timeoutSeconds tolerations topologySpreadConstraints type value valueFrom "
    "volumeMounts volumes workingDir limits requests allowPrivilegeEscalation"
)
PLAIN = frozenset(_NAMES.split())
"""Fields that are honoured, or without effect, in whatever type they are."""
_OPAQUE = frozenset(("affinity", "limits", "requests", "nodeSelector", "tolerations",
                     "topologySpreadConstraints"))  # fmt: skip
"""Plain fields whose contents are not the node's, or have names of the user's choice."""
MAX_SAID = 32


def unlabelled(pod: Pod) -> list[str]:
    """SELinux labels that are asked for, on a node whose runtime gives none."""
    spec = pod["spec"]
    containers = (spec.get("initContainers") or []) + (spec.get("containers") or [])
    places = {"spec": spec} | {f"spec.containers[{one['name']}]": one for one in containers}
    return [
        f"{path}.securityContext.seLinuxOptions is not honoured on this node: SELinux is not enabled"
        for path, one in places.items()
        if (one.get("securityContext") or {}).get("seLinuxOptions")
    ]


def unhonoured(pod: Pod) -> list[str]:
    """Fields that are set and not honoured, each with what happens instead."""
    spec = pod["spec"]
    if _is_plain(spec):
        return []
    # The table is loaded only here: a node whose pods are plain never has it in memory.
    from kedge.edge.kubelet.admission import pod_fields  # noqa: PLC0415

    found = _walk("PodSpec", spec, "spec", pod_fields.TABLE)
    return [text for _, text in zip(range(MAX_SAID), dict.fromkeys(found), strict=False)]


def _is_plain(value: dict[str, Any]) -> bool:
    for key, item in value.items():
        if key not in PLAIN:
            return False
        if not item or key in _OPAQUE:
            continue
        if type(item) is dict:
            if not _is_plain(item):
                return False
        elif type(item) is list and type(item[0]) is dict and not all(map(_is_plain, item)):
            return False
    return True


def _walk(
    name: str, value: dict[str, Any], path: str, table: dict[str, dict[str, tuple[Any, ...]]]
) -> Iterator[str]:
    rows = table.get(name, {})
    for field, item in value.items():
        row = rows.get(field)
        where = f"{path}.{field}"
        if row is None:
            yield f"{where} is not known to this node"
            continue
        kind, note, nested, values = row + ("", "", "", ())[len(row) :]
        if kind == "no" and (item in values if values else item):
            yield f"{where} is not honoured on this node" + (f": {note}" if note else "")
        elif nested and kind in ("yes", "maybe"):
            for part in item if isinstance(item, list) else [item]:
                if isinstance(part, dict):
                    yield from _walk(nested, part, _place(where, part, item), table)


def _place(where: str, part: dict[str, Any], item: Any) -> str:
    """A path with the name of a list's entry, as in ``spec.containers[web]``."""
    return f"{where}[{part.get('name', '')}]" if isinstance(item, list) else where
