# SPDX-License-Identifier: Apache-2.0
"""What is restricted beyond the baseline: pods as hardened as pods can be. Pure.

``CHECKS`` is as the baseline's; ``INSTEAD_OF`` says which of them stands for one of the baseline's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.pod_security.baseline import PROFILES, bad_seccomp, proc_mount
from kedge.api.pod_security.words import (
    Finding,
    count,
    listed,
    named,
    quoted,
    security,
    setters,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]

_VOLUMES = frozenset({
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
})  # fmt: skip
_KNOWN_VOLUMES = (
    "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs", "rbd", "flexVolume",
    "cinder", "cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk", "photonPersistentDisk",
    "portworxVolume", "scaleIO", "storageos",
)  # fmt: skip


def _is_windows(spec: Object) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def _escalation(_: Object, spec: Object) -> Finding | None:
    names = named(spec, lambda one: security(one).get("allowPrivilegeEscalation") is not False)
    if not names:
        return None
    words = f"{listed(names)} must set securityContext.allowPrivilegeEscalation=false"
    return Finding("allowPrivilegeEscalation != false", words)


def _capabilities(_: Object, spec: Object) -> Finding | None:
    bad: set[str] = set()

    def keeps(container: Object) -> bool:
        dropped = (security(container).get("capabilities") or {}).get("drop") or ()
        return "ALL" not in dropped

    def adds(container: Object) -> bool:
        added = (security(container).get("capabilities") or {}).get("add") or ()
        extra = {one for one in added if one != "NET_BIND_SERVICE"}
        bad.update(extra)
        return bool(extra)

    details = []
    keeping, adding = named(spec, keeps), named(spec, adds)
    if keeping:
        details.append(f'{listed(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        details.append(
            f"{listed(adding)} must not include {quoted(sorted(bad))} in securityContext.capabilities.add"
        )
    return Finding("unrestricted capabilities", "; ".join(details)) if details else None


def _volumes(_: Object, spec: Object) -> Finding | None:
    bad = [one for one in spec.get("volumes") or () if not _VOLUMES & one.keys()]
    if not bad:
        return None
    names = [one.get("name", "") for one in bad]
    types = sorted(
        {next((kind for kind in _KNOWN_VOLUMES if kind in one), "unknown") for one in bad}
    )
    what = count("restricted volume type", "restricted volume types", types)
    who = f"{count('volume', 'volumes', names)} {quoted(names)} {count('uses', 'use', names)}"
    return Finding("restricted volume types", f"{who} {what} {quoted(types)}")


def _non_root(_: Object, spec: Object) -> Finding | None:
    reason = "runAsNonRoot != true"
    who = setters(spec, lambda context: context.get("runAsNonRoot") is False)
    if who:
        return Finding(reason, f"{who} must not set securityContext.runAsNonRoot=false")
    if security(spec).get("runAsNonRoot"):
        return None
    names = named(spec, lambda one: security(one).get("runAsNonRoot") is None)
    if not names:
        return None
    return Finding(reason, f"pod or {listed(names)} must set securityContext.runAsNonRoot=true")


def _user(_: Object, spec: Object) -> Finding | None:
    who = setters(spec, lambda context: context.get("runAsUser") == 0)
    return Finding("runAsUser=0", f"{who} must not set runAsUser=0") if who else None


def _seccomp(_: Object, spec: Object) -> Finding | None:
    found = bad_seccomp(spec)
    if found is not None:
        return found
    if (security(spec).get("seccompProfile") or {}).get("type") in PROFILES:
        return None
    names = named(spec, lambda one: not security(one).get("seccompProfile"))
    if not names:
        return None
    words = f'pod or {listed(names)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return Finding("seccompProfile", words)


def _but(
    exempt: Callable[[Object], bool], check: Callable[[Object, Object], Finding | None]
) -> Callable[[Object, Object], Finding | None]:
    """A check that lets some pods be."""

    def relaxed(metadata: Object, spec: Object) -> Finding | None:
        return None if exempt(spec) else check(metadata, spec)

    return relaxed


def _has_own_users(spec: Object) -> bool:
    return spec.get("hostUsers") is False


CHECKS: dict[str, tuple[tuple[int, Callable[[Object, Object], Finding | None]], ...]] = {
    "allowPrivilegeEscalation": ((8, _escalation), (25, _but(_is_windows, _escalation))),
    "capabilities_restricted": ((22, _capabilities), (25, _but(_is_windows, _capabilities))),
    "procMount_restricted": ((35, proc_mount),),
    "restrictedVolumes": ((0, _volumes),),
    "runAsNonRoot": ((0, _non_root), (35, _but(_has_own_users, _non_root))),
    "runAsUser": ((23, _user), (35, _but(_has_own_users, _user))),
    "seccompProfile_restricted": ((19, _seccomp), (25, _but(_is_windows, _seccomp))),
}
INSTEAD_OF = {
    "capabilities_restricted": "capabilities_baseline",
    "procMount_restricted": "procMount_baseline",
    "restrictedVolumes": "hostPathVolumes",
    "seccompProfile_restricted": "seccompProfile_baseline",
}
