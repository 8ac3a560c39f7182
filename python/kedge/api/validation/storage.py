# SPDX-License-Identifier: Apache-2.0
"""Rules of PersistentVolumes, their claims and classes, and of what CSI drivers say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import names, quantities

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
BINDING_MODES = ("Immediate", "WaitForFirstConsumer")
_ABOUT_VOLUMES = frozenset({
    "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy",
    "storageClassName", "volumeAttributesClassName", "volumeMode",
})  # fmt: skip


def validate_volume(obj: Object, problems: Problems) -> None:
    """A PersistentVolume has a size, a way to be used, and one source."""
    spec = obj.get("spec", {})
    _access_modes(spec, "spec", problems)
    if "storage" not in spec.get("capacity", {}):
        problems.required("spec.capacity", "storage is a required field")
    else:
        _positive("spec.capacity[storage]", spec["capacity"]["storage"], problems)
    policy = spec.get("persistentVolumeReclaimPolicy")
    problems.choice("spec.persistentVolumeReclaimPolicy", policy, RECLAIM_POLICIES)
    problems.choice("spec.volumeMode", spec.get("volumeMode"), VOLUME_MODES)
    sources = spec.keys() - _ABOUT_VOLUMES
    if not sources:
        problems.required("spec", "must specify a volume type")
    elif len(sources) > 1:
        problems.forbidden(f"spec.{max(sources)}", "may not specify more than 1 volume type")
    if "local" in spec and "required" not in spec.get("nodeAffinity", {}):
        problems.required("spec.nodeAffinity", "Local volume requires node affinity")


def validate_volume_update(new: Object, old: Object, problems: Problems) -> None:
    """Where a volume's data is never changes."""
    before, after = old.get("spec", {}), new.get("spec", {})
    for source in (before.keys() | after.keys()) - _ABOUT_VOLUMES:
        if before.get(source) != after.get(source):
            detail = "spec.persistentvolumesource is immutable after creation"
            problems.forbidden("spec.persistentvolumesource", detail)
            return
    problems.immutable("spec.volumeMode", before.get("volumeMode"), after.get("volumeMode"))


def validate_claim(obj: Object, problems: Problems) -> None:
    """A PersistentVolumeClaim."""
    validate_claim_spec(obj.get("spec", {}), "spec", problems)


def validate_claim_spec(spec: Object, path: str, problems: Problems) -> None:
    """A claim, also one in a template, says how it is to be used and how much it needs."""
    _access_modes(spec, path, problems)
    requests = spec.get("resources", {}).get("requests", {})
    if "storage" not in requests:
        problems.required(f"{path}.resources[storage]")
    else:
        _positive(f"{path}.resources[storage]", requests["storage"], problems)
    problems.choice(f"{path}.volumeMode", spec.get("volumeMode"), VOLUME_MODES)
    name = spec.get("storageClassName")
    if name:
        problems.text(f"{path}.storageClassName", name, names.subdomain(name))


def validate_claim_update(new: Object, old: Object, problems: Problems) -> None:
    """Once made, a claim can be bound, and grow; nothing else."""
    before, after = dict(old.get("spec", {})), dict(new.get("spec", {}))
    if not before.get("volumeName"):
        before.pop("volumeName", None)
        after.pop("volumeName", None)
    if "storageClassName" not in before:
        after.pop("storageClassName", None)
    status = old.get("status", {})
    wanted, had = _storage(after), _storage(before)
    given = status.get("capacity", {}).get("storage")
    # who asked for more than there is may ask for less, if that is still more than what there is
    least = had if given is None else quantities.parse(given)
    shrinks = wanted is not None and had is not None and wanted < had
    if shrinks and wanted <= least:
        problems.forbidden(
            "spec.resources.requests.storage", "field can not be less than status.capacity"
        )
    for spec in (before, after):
        if status.get("phase") == "Bound":
            spec.pop("resources", None)
        spec.pop("volumeAttributesClassName", None)
    if before != after:
        problems.forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        )


def validate_class(obj: Object, problems: Problems) -> None:
    """A StorageClass names who makes its volumes."""
    if not obj.get("provisioner"):
        problems.required("provisioner")
    problems.choice("reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain"))
    problems.choice("volumeBindingMode", obj.get("volumeBindingMode"), BINDING_MODES)


def validate_class_update(new: Object, old: Object, problems: Problems) -> None:
    """What volumes were made by stays."""
    for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
        if new.get(field) != old.get(field):
            problems.forbidden(field, f"updates to {field} are forbidden.")


def validate_csi_node(obj: Object, problems: Problems) -> None:
    """A driver is listed once, with the node's name for it."""
    seen: set[str] = set()
    for index, driver in enumerate(obj.get("spec", {}).get("drivers", ())):
        path, name = f"spec.drivers[{index}]", driver.get("name", "")
        if not name:
            problems.required(f"{path}.name")
        elif name in seen:
            problems.duplicate(f"{path}.name", name)
        seen.add(name)
        if not driver.get("nodeID"):
            problems.required(f"{path}.nodeID")


def _access_modes(spec: Object, path: str, problems: Problems) -> None:
    modes = spec.get("accessModes") or []
    if not modes:
        problems.required(f"{path}.accessModes", "at least 1 access mode is required")
    for mode in modes:
        problems.choice(f"{path}.accessModes", mode, ACCESS_MODES)


def _positive(path: str, text: str, problems: Problems) -> None:
    if quantities.parse(text) <= 0:
        problems.invalid(path, text, "must be greater than zero")


def _storage(spec: Object) -> Any:
    amount = spec.get("resources", {}).get("requests", {}).get("storage")
    return None if amount is None else quantities.parse(amount)
