# SPDX-License-Identifier: Apache-2.0
"""Attaching: the controllers over a store, with an attacher that says what the real one would."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from kedge.cluster.controllers import Config
from tests.fakes.attacher import attach_all
from tests.fakes.control_plane import MERGE, ControlPlane, key

DRIVER = "csi.example"
IN_USE = f"kubernetes.io/csi/{DRIVER}^handle-of-pv"
FORCE_SECONDS = 0.4


@pytest.fixture
def controller_config() -> Config:
    return Config(ca_pem="CA", force_detach_seconds=FORCE_SECONDS)


@pytest.fixture
async def plane(plane: ControlPlane) -> ControlPlane:
    """A plane with two nodes."""
    for name in ("n1", "n2"):
        await plane.node(name)
    return plane


async def volume(
    plane: ControlPlane, mode: str = "ReadWriteOnce", *, name: str = "pv", claim: str = "data"
) -> None:
    """A claim and its volume, bound."""
    size = {"storage": "1Gi"}
    source = {"driver": DRIVER, "volumeHandle": "handle-of-pv"}
    made = {"accessModes": [mode], "capacity": size, "csi": source}
    body: dict[str, Any] = {"metadata": {"name": name}, "spec": made}
    await plane.registry.create(key("persistentvolumes", name), body)
    wanted = {"accessModes": [mode], "resources": {"requests": size}, "storageClassName": ""}
    body = {"metadata": {"name": claim}, "spec": wanted | {"volumeName": name}}
    await plane.registry.create(key("persistentvolumeclaims", claim), body)
    await plane.until(
        lambda: (
            (plane.get("persistentvolumeclaims", claim) or {}).get("status", {}).get("phase")
            == "Bound"
        )
    )


async def driver(plane: ControlPlane, **spec: Any) -> None:
    body = {"metadata": {"name": DRIVER}, "spec": spec}
    await plane.registry.create(key("csidrivers", DRIVER), body)


async def pod(plane: ControlPlane, name: str, node: str, of: str = "data") -> None:
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": of}}
    spec = {
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [claim],
        "nodeSelector": {"kubernetes.io/hostname": node},
    }
    await plane.registry.create(key("pods", name), {"metadata": {"name": name}, "spec": spec})
    await plane.until(lambda: (plane.get("pods", name) or {})["spec"].get("nodeName") == node)


async def remove(plane: ControlPlane, name: str) -> None:
    await plane.registry.delete(key("pods", name), {"gracePeriodSeconds": 0})


async def say_in_use(plane: ControlPlane, node: str, *names: str) -> None:
    patch = {"status": {"volumesInUse": list(names) or None}}
    await plane.registry.patch(key("nodes", node), patch, MERGE, subresource="status")


async def use_on_n1(plane: ControlPlane) -> None:
    """A pod has the volume on n1, and the node says so."""
    await volume(plane)
    await pod(plane, "web", "n1")
    await plane.until(lambda: attachments(plane))
    await say_in_use(plane, "n1", IN_USE)


def name_on(node: str) -> str:
    return f"csi-{hashlib.sha256(f'handle-of-pv{DRIVER}{node}'.encode()).hexdigest()}"


def attachments(plane: ControlPlane) -> list[str]:
    return [one["metadata"]["name"] for one in plane.all("volumeattachments")]


def attached(plane: ControlPlane, node: str) -> list[str]:
    status = (plane.get("nodes", node) or {}).get("status") or {}
    return [one["name"] for one in status.get("volumesAttached") or []]


def said(plane: ControlPlane, name: str) -> list[str]:
    return [
        f"{one['reason']}: {one['message']}"
        for one in plane.all("events")
        if one["involvedObject"]["name"] == name
    ]


@pytest.mark.parametrize("has_object", [True, False])
async def test_a_volume_is_attached_where_its_pod_runs_and_detached_after_it(
    plane: ControlPlane, has_object: bool
) -> None:
    if has_object:
        await driver(plane)
    await volume(plane)
    await pod(plane, "web", "n1")
    await plane.until(lambda: attachments(plane) == [name_on("n1")])
    made = plane.get("volumeattachments", name_on("n1")) or {}
    assert made["spec"] == {
        "attacher": DRIVER,
        "nodeName": "n1",
        "source": {"persistentVolumeName": "pv"},
    }
    assert attached(plane, "n1") == []
    await attach_all(plane, DRIVER)
    await plane.until(lambda: attached(plane, "n1") == [IN_USE])
    wanted = 'SuccessfulAttachVolume: AttachVolume.Attach succeeded for volume "pv" '
    await plane.until(lambda: wanted in said(plane, "web"))
    await say_in_use(plane, "n1", IN_USE)
    await remove(plane, "web")
    await plane.settled()
    assert attachments(plane) == [name_on("n1")], "the node has it mounted"
    await say_in_use(plane, "n1")
    await plane.until(lambda: attached(plane, "n1") == [])
    leaving = lambda: (plane.get("volumeattachments", name_on("n1")) or {})["metadata"]  # noqa: E731
    await plane.until(lambda: leaving().get("deletionTimestamp"))
    await attach_all(plane, DRIVER)
    await plane.until(lambda: attachments(plane) == [])


async def test_a_driver_that_needs_no_attaching_gets_none(plane: ControlPlane) -> None:
    await driver(plane, attachRequired=False)
    await volume(plane)
    await pod(plane, "web", "n1")
    await plane.settled()
    assert attachments(plane) == []


async def test_a_pod_that_has_ended_needs_its_volume_no_more(plane: ControlPlane) -> None:
    await volume(plane)
    await pod(plane, "web", "n1")
    await plane.until(lambda: attachments(plane))
    done = {"status": {"phase": "Succeeded"}}
    await plane.registry.patch(key("pods", "web"), done, MERGE, subresource="status")
    await plane.until(lambda: attachments(plane) == [])


async def test_a_volume_for_one_node_waits_until_the_other_has_let_go(plane: ControlPlane) -> None:
    await volume(plane)
    await pod(plane, "first", "n1")
    await plane.until(lambda: attachments(plane))
    await attach_all(plane, DRIVER)
    await pod(plane, "second", "n2")
    wanted = 'FailedAttachVolume: Multi-Attach error for volume "pv" Volume is already used by pod(s) first'
    await plane.until(lambda: wanted in said(plane, "second"))
    await remove(plane, "first")
    await plane.settled()
    assert attachments(plane) == [name_on("n1")], "its attacher has not detached it"
    await attach_all(plane, DRIVER)
    await plane.until(lambda: attachments(plane) == [name_on("n2")])
    assert not any("FailedAttachVolume" in one for one in said(plane, "first"))


async def test_a_volume_that_many_may_have_is_attached_to_each(plane: ControlPlane) -> None:
    await volume(plane, "ReadWriteMany")
    await pod(plane, "first", "n1")
    await pod(plane, "second", "n2")
    await plane.until(lambda: sorted(attachments(plane)) == sorted(map(name_on, ("n1", "n2"))))
    assert not any("Multi-Attach" in one for one in said(plane, "second"))


async def test_why_a_volume_cannot_be_attached_is_said_to_its_pods(plane: ControlPlane) -> None:
    await volume(plane)
    await pod(plane, "web", "n1")
    await plane.until(lambda: attachments(plane))
    await attach_all(plane, DRIVER, failure="the disk is on another continent")
    wanted = 'FailedAttachVolume: AttachVolume.Attach failed for volume "pv" : the disk is on another continent'
    await plane.until(lambda: wanted in said(plane, "web"))
    await attach_all(plane, DRIVER)
    await plane.until(lambda: attached(plane, "n1") == [IN_USE])


async def silence(plane: ControlPlane, node: str) -> None:
    plane.kubelets[node].away = True
    gone = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    patch = {"status": {"conditions": [gone]}}
    await plane.registry.patch(key("nodes", node), patch, MERGE, subresource="status")


async def test_a_silent_node_holds_a_volume_up_for_a_bounded_time_only(
    plane: ControlPlane,
) -> None:
    await use_on_n1(plane)
    await silence(plane, "n1")
    await remove(plane, "web")
    await plane.settled()
    assert attachments(plane) == [name_on("n1")]
    await plane.until(lambda: attachments(plane) == [])


async def test_a_node_that_is_out_of_service_is_not_waited_for(plane: ControlPlane) -> None:
    await use_on_n1(plane)
    await remove(plane, "web")
    await plane.settled()
    assert attachments(plane) == [name_on("n1")], "the node is there, and uses it"
    taint = {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}
    await plane.registry.patch(key("nodes", "n1"), {"spec": {"taints": [taint]}}, MERGE)
    await plane.until(lambda: attachments(plane) == [])


async def test_the_volumes_of_a_removed_node_are_detached(plane: ControlPlane) -> None:
    await use_on_n1(plane)
    await plane.registry.delete(key("nodes", "n1"), {})
    await plane.until(lambda: attachments(plane) == [])


async def test_volumes_that_are_one_for_their_driver_are_attached_once(
    plane: ControlPlane,
) -> None:
    await volume(plane, "ReadWriteMany")
    await volume(plane, "ReadWriteMany", name="same", claim="again")
    await pod(plane, "first", "n1")
    await plane.until(lambda: attachments(plane))
    await pod(plane, "second", "n1", of="again")
    await remove(plane, "first")
    await plane.settled()
    assert attachments(plane) == [name_on("n1")], "the second needs it"
    await remove(plane, "second")
    await plane.until(lambda: attachments(plane) == [])


async def test_attachments_that_others_made_are_left_alone(plane: ControlPlane) -> None:
    await volume(plane)
    spec = {"attacher": DRIVER, "nodeName": "n1", "source": {"persistentVolumeName": "pv"}}
    body = {"metadata": {"name": "mine"}, "spec": spec}
    await plane.registry.create(key("volumeattachments", "mine"), body)
    await plane.settled()
    assert attachments(plane) == ["mine"]
