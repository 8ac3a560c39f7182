# SPDX-License-Identifier: Apache-2.0
"""What a delete does: remove at once, or mark and wait. Pure.

An object with finalizers is marked and goes when the last one is taken away. A pod on a node is
marked with its grace and goes when its kubelet reports that the containers are gone, by a delete
with no grace. A Namespace waits for ``spec.finalizers``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge.api.meta import FOREGROUND_FINALIZER, ORPHAN_FINALIZER, timestamp
from kedge.errors import BadRequest

if TYPE_CHECKING:
    from kedge.api.kinds import Kind

Object = dict[str, Any]

DEFAULT_GRACE_SECONDS = 30
_POLICIES = ("Background", "Foreground", "Orphan")


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How to delete.

    Attributes:
        grace_seconds: overrides the object's own grace.
        propagation: ``Background``, ``Foreground``, ``Orphan``, or empty for the kind's default.
        uid: the uid that the object must have, if any.
        resource_version: the version that it must have, if any.
        dry_run: decide, and write nothing.
    """

    grace_seconds: int | None = None
    propagation: str = ""
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False

    @classmethod
    def read(cls, body: Object) -> DeleteOptions:
        """From a ``DeleteOptions`` object.

        Raises:
            BadRequest: a value is of a wrong type or not one that exists.
        """
        grace = body.get("gracePeriodSeconds")
        if grace is not None and (type(grace) is not int or grace < 0):
            raise BadRequest(f"gracePeriodSeconds: wanted a number of seconds, got: {grace!r}")
        propagation = body.get("propagationPolicy") or ""
        orphan = body.get("orphanDependents")
        if propagation and orphan is not None:
            raise BadRequest("orphanDependents and deletionPropagation cannot be both set")
        if orphan is not None:
            propagation = "Orphan" if orphan else "Background"
        if propagation and propagation not in _POLICIES:
            raise BadRequest(
                f"propagationPolicy: wanted one of {', '.join(_POLICIES)}, got: {propagation!r}"
            )
        preconditions = body.get("preconditions") or {}
        if type(preconditions) is not dict:
            raise BadRequest(f"preconditions: wanted an object, got: {preconditions!r}")
        return cls(
            grace_seconds=grace,
            propagation=propagation,
            uid=preconditions.get("uid") or "",
            resource_version=preconditions.get("resourceVersion") or "",
            dry_run=is_dry_run(body.get("dryRun")),
        )


def is_dry_run(value: Any) -> bool:
    """Whether ``dryRun`` asks for it.

    Raises:
        BadRequest: something else than ``All`` is asked for.
    """
    if not value:
        return False
    if value not in (["All"], "All"):
        raise BadRequest(f'dryRun: Unsupported value: {value!r}: supported values: "All"')
    return True


def begin(kind: Kind, obj: Object, options: DeleteOptions, now: float) -> bool:
    """Decides a delete, changing the object where it has to wait.

    Args:
        kind: the object's kind.
        obj: the object as stored; it is marked in place.
        options: how to delete.
        now: seconds since 1970.

    Returns:
        Whether the object is to be removed now; else it stays, changed or as it was.
    """
    metadata = obj["metadata"]
    finalizers = list(metadata.get("finalizers", ()))
    propagation = options.propagation or _default(kind, finalizers)
    wanted = {"Orphan": ORPHAN_FINALIZER, "Foreground": FOREGROUND_FINALIZER}.get(propagation)
    if propagation:
        finalizers = [
            name for name in finalizers if name not in (ORPHAN_FINALIZER, FOREGROUND_FINALIZER)
        ]
        if wanted is not None:
            finalizers.append(wanted)
    grace = _grace(kind, obj, options)
    if is_free(kind, obj, finalizers) and grace == 0:
        return True
    _mark(metadata, grace, now)
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    if kind.resource == "namespaces":
        obj.setdefault("status", {})["phase"] = "Terminating"
    return False


def _default(kind: Kind, finalizers: list[str]) -> str:
    """What happens to dependents when nobody says: the pods of a Job stay, for compatibility."""
    decided = ORPHAN_FINALIZER in finalizers or FOREGROUND_FINALIZER in finalizers
    return "" if decided or (kind.group, kind.resource) != ("batch", "jobs") else "Orphan"


def is_free(kind: Kind, obj: Object, finalizers: list[str]) -> bool:
    """Whether nothing that has to happen first is written on the object."""
    return not finalizers and not (
        kind.resource == "namespaces" and obj.get("spec", {}).get("finalizers")
    )


def is_finished(kind: Kind, obj: Object) -> bool:
    """Whether a marked object may go after a write took something from it."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("deletionGracePeriodSeconds", 0) > 0:
        return False
    return is_free(kind, obj, metadata.get("finalizers", []))


def _grace(kind: Kind, obj: Object, options: DeleteOptions) -> int:
    if kind.resource != "pods" or kind.group:
        return 0
    spec = obj.get("spec", {})
    if not spec.get("nodeName") or obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    if options.grace_seconds is not None:
        return options.grace_seconds
    return max(int(spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)), 1)


def _mark(metadata: Object, grace: int, now: float) -> None:
    """A second delete can only shorten the grace of the first."""
    if "deletionTimestamp" in metadata:
        before = metadata.get("deletionGracePeriodSeconds", 0)
        if grace >= before:
            return
    metadata["deletionTimestamp"] = timestamp(now + grace)
    metadata["deletionGracePeriodSeconds"] = grace
    if "generation" in metadata:
        metadata["generation"] += 1
