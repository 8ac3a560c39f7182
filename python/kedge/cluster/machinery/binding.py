# SPDX-License-Identifier: Apache-2.0
"""Which PersistentVolume fits a claim, and how much room nodes have for new ones. Pure.

The controller of volumes and the scheduler both decide by these rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.cluster.machinery.selectors import labels_match, node_term_matches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from kedge.cluster.machinery.records import Node
    from kedge.cluster.machinery.storage import Claim, StorageClass, Volume

LOCAL_PATH = "kedge.io/local-path"
"""The built-in provisioner: a directory of the node that the pod was given."""
NO_PROVISIONER = "kubernetes.io/no-provisioner"
POOL = "kedge.io/local-storage"
"""The resource in which a node tells its disk for local volumes: capacity is its size, allocatable what is free."""
ONE_POD = "ReadWriteOncePod"
HOSTNAME = "kubernetes.io/hostname"


def class_of(claim: Claim, classes: Iterable[StorageClass]) -> StorageClass | None:
    """The class of a claim; the default one (the newest, if there are several) when it names none."""
    if claim.class_name is not None:
        return next((one for one in classes if one.name == claim.class_name), None)
    return default_class(classes)


def default_class(classes: Iterable[StorageClass]) -> StorageClass | None:
    """The newest class that is marked as the default one."""
    found = [one for one in classes if one.is_default]
    return max(found, key=lambda one: (one.created, one.name), default=None)


def is_meant_for(volume: Volume, claim: Claim) -> bool:
    """Whether a volume's ``claimRef`` names this claim."""
    reference = volume.claim
    return (
        reference is not None
        and (reference.namespace, reference.name) == claim.key
        and reference.uid in ("", claim.uid)
    )


def mismatch(claim: Claim, volume: Volume) -> str:
    """Why a volume that a claim names cannot serve it; empty when it can."""
    if volume.is_block != claim.is_block:
        return f'incompatible volumeMode on claim "{claim.name}" and volume "{volume.name}"'
    if volume.size < claim.size:
        return "requested PV is too small"
    if volume.class_name != (claim.class_name or ""):
        return "storageClassName does not match"
    if not set(claim.modes) <= set(volume.modes):
        return "incompatible accessMode"
    return ""


def reachable(volume: Volume, node: Node) -> bool:
    """Whether a node can use a volume."""
    if volume.terms is None:
        return True
    return any(node_term_matches(term, node.name, node.labels) for term in volume.terms)


def match(
    claim: Claim,
    volumes: Iterable[Volume],
    node: Node | None = None,
    taken: Collection[str] = (),
) -> Volume | None:
    """The volume to bind a claim to: one that is meant for it, else the smallest that will do.

    Args:
        claim: it names no volume yet.
        volumes: all of them.
        node: where it will be used, if that is known.
        taken: names of volumes that others are about to get.
    """
    best: Volume | None = None
    for volume in volumes:
        if volume.deleted or volume.name in taken or mismatch(claim, volume):
            continue
        if node is not None and not reachable(volume, node):
            continue
        if is_meant_for(volume, claim):
            return volume
        if volume.claim is not None or volume.phase not in ("Available", "Pending"):
            continue
        if claim.selector is not None and not labels_match(claim.selector, volume.labels):
            continue
        if best is None or (volume.size, volume.name) < (best.size, best.name):
            best = volume
    return best


def host_of(volume: Volume) -> str:
    """The hostname of the one node that a local-path volume is on; empty for others."""
    if volume.provisioned_by != LOCAL_PATH:
        return ""
    for term in volume.terms or ():
        for one in term.match_expressions or ():
            if one.key == HOSTNAME and one.operator == "In" and len(one.values or ()) == 1:
                return (one.values or ("",))[0]
    return ""


def hostname(node: Node) -> str:
    """What a node is called in volumes that are on it."""
    return node.labels.get(HOSTNAME, node.name)


def room(node: Node, volumes: Iterable[Volume], promised: int = 0) -> int:
    """Bytes that a new local-path volume may have on a node.

    What was promised counts, whether it is written yet or not; and what is not free now cannot be given.

    Args:
        node: as it reported.
        volumes: all of them.
        promised: bytes of volumes that are about to be made there.
    """
    here = hostname(node)
    given = sum(one.size for one in volumes if host_of(one) == here)
    return min(node.volume_pool - given, node.allocatable.get(POOL, 0)) - promised
