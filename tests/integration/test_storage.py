# SPDX-License-Identifier: Apache-2.0
"""Claims, volumes, the built-in provisioner and the scheduler together, over a store and a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kedge.errors import Forbidden, Invalid
from tests.fakes.control_plane import MERGE, ControlPlane, key

if TYPE_CHECKING:
    from tests.fakes.kubelet import TestKubelet

POOL = {"kedge.io/local-storage": "10Gi"}


def claim_spec(size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    return {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
        **spec,
    }


async def claim(plane: ControlPlane, name: str, size: str = "1Gi", **spec: Any) -> None:
    body = {"metadata": {"name": name}, "spec": claim_spec(size, **spec)}
    await plane.registry.create(key("persistentvolumeclaims", name), body)


async def volume(plane: ControlPlane, name: str, size: str = "1Gi", **spec: Any) -> None:
    body = {
        "metadata": {"name": name, **spec.pop("metadata", {})},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": size},
            "hostPath": {"path": f"/srv/{name}"},
            **spec,
        },
    }
    await plane.registry.create(key("persistentvolumes", name), body)


async def pod(plane: ControlPlane, name: str, *claims: str, **spec: Any) -> None:
    volumes = [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in claims]
    body = {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": volumes, **spec},
    }
    await plane.registry.create(key("pods", name), body)


def on_host(name: str) -> dict[str, Any]:
    term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}}


def phase(plane: ControlPlane, resource: str, name: str) -> str:
    found = plane.get(resource, name) or {}
    return str((found.get("status") or {}).get("phase", ""))


def bound(plane: ControlPlane, name: str) -> str:
    """The volume of a claim that is bound."""
    if phase(plane, "persistentvolumeclaims", name) != "Bound":
        return ""
    return str((plane.get("persistentvolumeclaims", name) or {})["spec"]["volumeName"])


def said(plane: ControlPlane, name: str) -> list[str]:
    return [
        f"{one['reason']}: {one['message']}"
        for one in plane.all("events")
        if one["involvedObject"]["name"] == name
    ]


async def test_a_claim_gets_the_smallest_volume_that_fits_by_class_mode_size_and_selector(
    plane: ControlPlane,
) -> None:
    await volume(plane, "small", "1Gi")
    await volume(plane, "large", "8Gi")
    await volume(plane, "fitting", "4Gi")
    await volume(plane, "other-class", "3Gi", storageClassName="x")
    await volume(plane, "other-mode", "3Gi", accessModes=["ReadOnlyMany"])
    await volume(plane, "labelled", "9Gi", metadata={"labels": {"kind": "ssd"}})
    await claim(plane, "data", "2Gi", storageClassName="")
    await plane.until(lambda: bound(plane, "data") == "fitting")
    await plane.until(lambda: phase(plane, "persistentvolumes", "fitting") == "Bound")
    found = plane.get("persistentvolumeclaims", "data") or {}
    assert found["status"]["capacity"] == {"storage": "4Gi"}
    assert found["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] == "yes"
    await claim(plane, "fast", storageClassName="", selector={"matchLabels": {"kind": "ssd"}})
    await plane.until(lambda: bound(plane, "fast") == "labelled")
    await plane.until(lambda: phase(plane, "persistentvolumes", "small") == "Available")


async def test_a_claim_that_comes_before_its_volume_waits_and_says_so(plane: ControlPlane) -> None:
    await claim(plane, "data", storageClassName="")
    await plane.until(lambda: any("FailedBinding" in one for one in said(plane, "data")))
    assert said(plane, "data") == [
        "FailedBinding: no persistent volumes available for this claim and no storage class is set"
    ]
    await volume(plane, "late")
    await plane.until(lambda: bound(plane, "data") == "late")


async def test_a_claim_may_name_its_volume_and_a_volume_its_claim(plane: ControlPlane) -> None:
    await volume(plane, "a")
    await volume(plane, "b", claimRef={"namespace": "default", "name": "second"})
    await claim(plane, "first", storageClassName="", volumeName="a")
    await claim(plane, "third", storageClassName="", volumeName="a")
    await plane.until(lambda: bound(plane, "first") == "a" or bound(plane, "third") == "a")
    await claim(plane, "second", storageClassName="")
    await plane.until(lambda: bound(plane, "second") == "b")
    loser = "third" if bound(plane, "first") else "first"
    await plane.until(lambda: any("already bound" in one for one in said(plane, loser)))


async def test_a_volume_too_small_for_the_claim_that_names_it_is_refused(
    plane: ControlPlane,
) -> None:
    await volume(plane, "a")
    await claim(plane, "data", "2Gi", storageClassName="", volumeName="a")
    wanted = 'VolumeMismatch: Cannot bind to requested volume "a": requested PV is too small'
    await plane.until(lambda: wanted in said(plane, "data"))
    assert phase(plane, "persistentvolumeclaims", "data") == "Pending"


async def test_a_retained_volume_is_released_and_not_given_to_another(plane: ControlPlane) -> None:
    await volume(plane, "a")
    await claim(plane, "data", storageClassName="")
    await plane.until(lambda: bound(plane, "data"))
    await plane.registry.delete(key("persistentvolumeclaims", "data"), {})
    await plane.until(lambda: phase(plane, "persistentvolumes", "a") == "Released")
    await claim(plane, "data", storageClassName="")
    await plane.settled()
    assert phase(plane, "persistentvolumeclaims", "data") == "Pending"


async def test_a_claim_whose_volume_is_gone_is_lost(plane: ControlPlane) -> None:
    await volume(plane, "a")
    await claim(plane, "data", storageClassName="")
    await plane.until(lambda: bound(plane, "data"))
    await plane.registry.delete(key("persistentvolumes", "a"), {})
    await plane.settled()
    assert phase(plane, "persistentvolumes", "a") == "Bound"
    patch = {"metadata": {"finalizers": []}}
    await plane.registry.patch(key("persistentvolumes", "a"), patch, MERGE)
    await plane.until(lambda: phase(plane, "persistentvolumeclaims", "data") == "Lost")
    await plane.until(
        lambda: any("lost its PersistentVolume" in one for one in said(plane, "data"))
    )


# WaitForFirstConsumer and the built-in provisioner


async def test_a_claim_of_the_default_class_waits_for_a_pod_and_is_made_on_its_node(
    plane: ControlPlane,
) -> None:
    await plane.node("n1", **POOL)
    await claim(plane, "data")
    wanted = "WaitForFirstConsumer: waiting for first consumer to be created before binding"
    await plane.until(lambda: wanted in said(plane, "data"))
    assert plane.all("persistentvolumes") == []
    await pod(plane, "web", "data")
    await plane.until(lambda: plane.ready(node="n1"))
    made = plane.get("persistentvolumes", bound(plane, "data")) or {}
    assert made["spec"]["nodeAffinity"] == on_host("n1")
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert made["spec"]["local"]["path"].endswith(made["metadata"]["name"])
    claimed = plane.get("persistentvolumeclaims", "data") or {}
    assert claimed["spec"]["storageClassName"] == "local-path"
    assert claimed["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == "n1"


async def test_a_pod_runs_where_its_volume_is(plane: ControlPlane) -> None:
    await plane.node("n1", **POOL)
    await plane.node("n2", **POOL)
    await volume(plane, "a", storageClassName="x", nodeAffinity=on_host("n2"))
    await claim(plane, "data", storageClassName="x")
    for number in range(3):
        await plane.until(lambda: bound(plane, "data") == "a")
        await pod(plane, f"web-{number}", "data")
    await plane.until(lambda: len(plane.ready(node="n2")) == 3)
    await pod(plane, "stuck", "data", nodeSelector={"kubernetes.io/hostname": "n1"})
    await plane.until(lambda: any("FailedScheduling" in one for one in said(plane, "stuck")))
    assert "1 node(s) didn't match PersistentVolume's node affinity" in said(plane, "stuck")[0]


async def test_local_volumes_without_a_provisioner_are_bound_where_the_pod_goes(
    plane: ControlPlane,
) -> None:
    await plane.node("n1")
    await plane.node("n2")
    body = {
        "metadata": {"name": "disks"},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    await plane.registry.create(key("storageclasses", "disks"), body)
    await volume(plane, "on-1", "5Gi", storageClassName="disks", nodeAffinity=on_host("n1"))
    await volume(plane, "on-2", "9Gi", storageClassName="disks", nodeAffinity=on_host("n2"))
    for name in ("first", "second", "third"):
        await claim(plane, name, storageClassName="disks")
        await pod(plane, name, name)
    await plane.until(lambda: len(plane.ready()) == 2)
    names = {one: bound(plane, one) for one in ("first", "second", "third")}
    assert sorted(names.values()) == ["", "on-1", "on-2"]
    last = next(one for one, volume in names.items() if not volume)
    wanted = "2 node(s) didn't find available persistent volumes to bind"
    await plane.until(lambda: any(wanted in one for one in said(plane, last)))


async def test_what_does_not_fit_stays_pending_with_an_event_and_the_promised_counts(
    plane: ControlPlane,
) -> None:
    await plane.node("n1", **POOL)
    for name in ("first", "second"):
        await claim(plane, name, "6Gi")
    await pod(plane, "first", "first")
    await plane.until(lambda: bound(plane, "first"))
    await pod(plane, "second", "second")
    await plane.until(lambda: any("ProvisioningFailed" in one for one in said(plane, "second")))
    text = next(one for one in said(plane, "second") if "FailedScheduling" in one)
    assert text.endswith("1 node(s) did not have enough free storage.")
    assert phase(plane, "persistentvolumeclaims", "second") == "Pending"
    await plane.node("n2", **POOL)
    await plane.until(lambda: plane.ready(node="n2"))


async def remove_as_asked(plane: ControlPlane, kubelet: TestKubelet) -> str:
    """What a node does that is asked to remove volumes: the names that it was told."""
    note = "volumes.kedge.io/remove"
    asked = lambda: (plane.get("nodes", kubelet.name) or {})["metadata"].get("annotations") or {}  # noqa: E731
    await plane.until(lambda: asked().get(note))
    names = str(asked()[note])
    gone = [f"kedge.io/local-path-removed/{one}" for one in names.split(",")]
    patch = {"status": {"volumesInUse": gone}}
    await plane.registry.patch(key("nodes", kubelet.name), patch, MERGE, subresource="status")
    await plane.until(lambda: note not in asked())
    return names


async def test_a_claim_in_use_stays_and_its_volume_goes_when_the_node_has_removed_it(
    plane: ControlPlane,
) -> None:
    kubelet = await plane.node("n1", **POOL)
    await claim(plane, "data")
    await pod(plane, "web", "data")
    await plane.until(lambda: plane.ready(node="n1"))
    name = bound(plane, "data")
    await plane.registry.delete(key("persistentvolumeclaims", "data"), {})
    await plane.settled()
    held = plane.get("persistentvolumeclaims", "data") or {}
    assert held["metadata"]["deletionTimestamp"]
    kubelet.away = True
    await plane.registry.delete(key("pods", "web"), {"gracePeriodSeconds": 0})
    await plane.until(lambda: plane.get("persistentvolumeclaims", "data") is None)
    await plane.until(lambda: phase(plane, "persistentvolumes", name) == "Released")
    await plane.settled()
    left = plane.get("persistentvolumes", name) or {}
    assert left["metadata"]["finalizers"] == ["kedge.io/local-path"]
    assert await remove_as_asked(plane, kubelet) == name
    await plane.until(lambda: plane.get("persistentvolumes", name) is None)


async def test_the_volumes_of_a_node_that_was_removed_for_good_can_go(plane: ControlPlane) -> None:
    await plane.node("n1", **POOL)
    await claim(plane, "data")
    await pod(plane, "web", "data")
    await plane.until(lambda: plane.ready(node="n1"))
    name = bound(plane, "data")
    await plane.registry.delete(key("pods", "web"), {"gracePeriodSeconds": 0})
    await plane.registry.delete(key("nodes", "n1"), {})
    await plane.registry.delete(key("persistentvolumeclaims", "data"), {})
    await plane.until(lambda: plane.get("persistentvolumes", name) is None)


async def test_an_ephemeral_volume_has_a_claim_of_its_pod(plane: ControlPlane) -> None:
    await plane.node("n1", **POOL)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": claim_spec()}
    volumes = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]
    await pod(plane, "web", volumes=volumes)
    await plane.until(lambda: plane.ready(node="n1"))
    made = plane.get("persistentvolumeclaims", "web-scratch") or {}
    assert made["metadata"]["labels"] == {"a": "b"}
    assert made["metadata"]["ownerReferences"][0]["kind"] == "Pod"
    await plane.registry.delete(key("pods", "web"), {"gracePeriodSeconds": 0})
    await plane.until(lambda: plane.get("persistentvolumeclaims", "web-scratch") is None)


async def test_a_claim_of_that_name_that_is_not_the_pods_is_not_used(plane: ControlPlane) -> None:
    await plane.node("n1", **POOL)
    await claim(plane, "web-scratch")
    template = {"spec": claim_spec()}
    volumes = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]
    await pod(plane, "web", volumes=volumes)
    wanted = 'PVC "web-scratch" was not created for pod "web" (pod is not owner)'
    await plane.until(lambda: any(wanted in one for one in said(plane, "web")))
    await plane.settled()
    assert plane.ready() == []


async def test_a_missing_claim_or_class_is_named(plane: ControlPlane) -> None:
    await plane.node("n1", **POOL)
    await pod(plane, "web", "nowhere")
    wanted = 'FailedScheduling: 0/1 nodes are available: persistentvolumeclaim "nowhere" not found.'
    await plane.until(lambda: wanted in said(plane, "web"))
    await claim(plane, "data", storageClassName="gold")
    wanted = 'ProvisioningFailed: storageclass.storage.k8s.io "gold" not found'
    await plane.until(lambda: wanted in said(plane, "data"))
    await claim(plane, "nowhere")
    await plane.until(lambda: plane.ready(node="n1"))


async def test_read_write_once_pod_is_one_pods(plane: ControlPlane) -> None:
    await plane.node("n1", **POOL)
    await claim(plane, "data", accessModes=["ReadWriteOncePod"])
    await pod(plane, "first", "data")
    await plane.until(lambda: plane.ready(node="n1"))
    await pod(plane, "second", "data")
    await plane.until(lambda: any("ReadWriteOncePod" in one for one in said(plane, "second")))
    await plane.registry.delete(key("pods", "first"), {"gracePeriodSeconds": 0})
    await plane.until(lambda: [one["metadata"]["name"] for one in plane.ready()] == ["second"])


async def test_what_the_built_in_provisioner_cannot_make_is_said_and_nothing_is_made(
    plane: ControlPlane,
) -> None:
    await plane.node("n1", **POOL)
    body = {"metadata": {"name": "at-once"}, "provisioner": "kedge.io/local-path"}
    await plane.registry.create(key("storageclasses", "at-once"), body)
    await claim(plane, "at-once", storageClassName="at-once")
    for name, wanted, spec in (
        ("at-once", "volumeBindingMode", None),
        ("block", "volumeMode Block is not supported", {"volumeMode": "Block"}),
        ("many", "accessModes: wanted ReadWriteOnce", {"accessModes": ["ReadWriteMany"]}),
    ):
        if spec is not None:
            await claim(plane, name, **spec)
            await pod(plane, name, name)
        await plane.until(
            lambda name=name, wanted=wanted: any(  # type: ignore[misc]
                "ProvisioningFailed" in one and wanted in one for one in said(plane, name)
            )
        )
        assert phase(plane, "persistentvolumeclaims", name) == "Pending"
    assert plane.all("persistentvolumes") == []
    assert plane.ready() == []


async def grow(plane: ControlPlane, name: str, size: str) -> None:
    patch = {"spec": {"resources": {"requests": {"storage": size}}}}
    await plane.registry.patch(key("persistentvolumeclaims", name), patch, MERGE)


def size_of(plane: ControlPlane, name: str) -> tuple[str, str]:
    """What a claim and its volume say that there is."""
    found = plane.get("persistentvolumeclaims", name) or {}
    volume = plane.get("persistentvolumes", found["spec"]["volumeName"]) or {}
    return found["status"]["capacity"]["storage"], volume["spec"]["capacity"]["storage"]


async def test_a_claim_grows_as_far_as_its_node_has_room(plane: ControlPlane) -> None:
    await plane.node("n1", **POOL)
    for name in ("data", "other"):
        await claim(plane, name, "2Gi")
        await pod(plane, name, name)
        await plane.until(lambda name=name: bound(plane, name))  # type: ignore[misc]
    await grow(plane, "data", "3Gi")
    await plane.until(lambda: size_of(plane, "data") == ("3Gi", "3Gi"))
    await plane.until(
        lambda: "VolumeResizeSuccessful: Resize volume succeeded" in said(plane, "data")
    )
    # 10Gi less 3Gi and 2Gi: 5Gi are left, and 6Gi wanted
    await grow(plane, "data", "9Gi")
    await plane.until(lambda: any("VolumeResizeFailed" in one for one in said(plane, "data")))
    text = next(one for one in said(plane, "data") if "VolumeResizeFailed" in one)
    assert f"wanted {6 << 30} bytes, has {5 << 30}" in text
    await plane.settled()
    assert size_of(plane, "data") == ("3Gi", "3Gi")
    # when the other has gone there is room
    await plane.registry.delete(key("pods", "other"), {"gracePeriodSeconds": 0})
    await plane.registry.delete(key("persistentvolumeclaims", "other"), {})
    await remove_as_asked(plane, plane.kubelets["n1"])
    await plane.until(lambda: size_of(plane, "data") == ("9Gi", "9Gi"))


async def test_who_asked_for_too_much_may_ask_for_less_but_not_shrink(plane: ControlPlane) -> None:
    await plane.node("n1", **POOL)
    await claim(plane, "data", "2Gi")
    await pod(plane, "data", "data")
    await plane.until(lambda: bound(plane, "data"))
    await grow(plane, "data", "20Gi")
    await plane.until(lambda: any("VolumeResizeFailed" in one for one in said(plane, "data")))
    with pytest.raises(Invalid, match=r"can not be less than status\.capacity"):
        await grow(plane, "data", "1Gi")
    await grow(plane, "data", "4Gi")
    await plane.until(lambda: size_of(plane, "data") == ("4Gi", "4Gi"))


async def test_a_claim_grows_only_if_its_class_lets_it_and_it_is_bound(plane: ControlPlane) -> None:
    await volume(plane, "a", storageClassName="fixed")
    await claim(plane, "data", storageClassName="fixed")
    await plane.until(lambda: bound(plane, "data") == "a")
    with pytest.raises(Forbidden, match="the storageclass that provisions the pvc must support"):
        await grow(plane, "data", "2Gi")
    await claim(plane, "waiting")
    with pytest.raises(Invalid, match="spec is immutable after creation"):
        await grow(plane, "waiting", "2Gi")


async def test_the_growth_of_a_drivers_volume_is_its_resizers(plane: ControlPlane) -> None:
    body = {
        "metadata": {"name": "fast"},
        "provisioner": "csi.example",
        "allowVolumeExpansion": True,
    }
    await plane.registry.create(key("storageclasses", "fast"), body)
    source = {"driver": "csi.example", "volumeHandle": "v"}
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "csi": source,
        "storageClassName": "fast",
    }
    await plane.registry.create(
        key("persistentvolumes", "a"), {"metadata": {"name": "a"}, "spec": spec}
    )
    await claim(plane, "data", storageClassName="fast")
    await plane.until(lambda: bound(plane, "data") == "a")
    await grow(plane, "data", "2Gi")
    wanted = "ExternalExpanding: waiting for an external controller to expand this PVC"
    await plane.until(lambda: wanted in said(plane, "data"))
    assert size_of(plane, "data") == ("1Gi", "1Gi")


async def test_pods_that_come_together_do_not_share_what_is_left(plane: ControlPlane) -> None:
    for name in ("n1", "n2"):
        await plane.node(name, **POOL)
    for number in range(6):
        await claim(plane, f"c{number}", "4Gi")
    for number in range(6):
        await pod(plane, f"p{number}", f"c{number}")
    await plane.until(lambda: len(plane.ready()) == 4)
    await plane.settled()
    sizes = [one["spec"]["nodeAffinity"] for one in plane.all("persistentvolumes")]
    assert sorted(map(str, sizes)) == sorted(map(str, [on_host("n1")] * 2 + [on_host("n2")] * 2))
    waiting = [one for one in range(6) if not bound(plane, f"c{one}")]
    assert len(waiting) == 2


async def test_volumes_that_fit_are_used_up_best_first(plane: ControlPlane) -> None:
    await volume(plane, "for-it", "9Gi", claimRef={"namespace": "default", "name": "data"})
    await volume(plane, "smaller", "2Gi")
    await claim(plane, "data", "1Gi", storageClassName="")
    await claim(plane, "other", "1Gi", storageClassName="")
    await plane.until(lambda: bound(plane, "data") == "for-it")
    await plane.until(lambda: bound(plane, "other") == "smaller")
