# SPDX-License-Identifier: Apache-2.0
"""What nodes report gets to the API, newest only, and is acknowledged after the API answered."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from kedge.api.keys import ObjectKey
from kedge.cloud import names, reports
from kedge.cloud.reports import Report, Reports, decode
from kedge.cloud.sessions import Session, Sessions
from kedge.cloud.status_patches import claim_patch
from kedge.errors import ApiError, BadRequest, Disconnected, Forbidden, Invalid
from tests.fakes.kubernetes import FakeApi, FakeHub, FakeMirror

POD = ObjectKey("", "pods", "default", "web")
NODE = ObjectKey("", "nodes", "", "a")


class Rig:
    def __init__(self) -> None:
        self.now = 0.0
        self.api, self.mirror, self.hub = FakeApi(), FakeMirror(), FakeHub()
        self.sessions = Sessions()
        self.sessions.connected(Session(1, "a", key_hash="sha256:one"))
        self.reports = Reports(
            self.api, self.mirror, self.sessions, self.hub, workers=8, clock=lambda: self.now
        )
        self.api.objects[POD] = {"metadata": {"name": "web", "uid": "u1"}, "status": {}}

    def submit(self, seq, resource, value, *, namespace="default", name="web", session=1):
        key = ObjectKey("", resource, namespace, name)
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.reports.submit(Report("a", session, seq, key, raw))

    def status(self, seq, phase, **more):
        metadata = {"name": "web", "namespace": "default", "uid": "u1"}
        self.submit(seq, "pods/status", {"metadata": metadata, "status": {"phase": phase}}, **more)


@asynccontextmanager
async def running(rig):
    task = asyncio.get_running_loop().create_task(rig.reports.run())
    try:
        yield
        async with asyncio.timeout(10):
            while len(rig.reports) or rig.api.active:
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_status_is_in_the_api_before_it_is_acknowledged():
    rig = Rig()
    rig.api.delay_seconds = 0.02
    async with running(rig):
        rig.status(7, "Running")
        await asyncio.sleep(0.005)
        assert rig.api.calls
        assert not rig.hub.acked
    assert rig.api.objects[POD]["status"]["phase"] == "Running"
    assert rig.hub.acked == [(1, 7)]
    [call] = rig.api.calls
    assert (call.subresource, call.content_type) == (
        "status",
        "application/strategic-merge-patch+json",
    )


async def test_only_the_newest_of_an_object_is_written_and_all_are_acknowledged():
    rig = Rig()
    for seq, phase in enumerate(["Pending", "Running", "Failed"]):
        rig.status(seq, phase)
    async with running(rig):
        pass
    assert len(rig.api.calls) == 1
    assert rig.api.objects[POD]["status"]["phase"] == "Failed"
    assert rig.hub.acked == [(1, 0), (1, 1), (1, 2)]


async def test_a_newer_report_waits_for_the_one_being_written():
    rig = Rig()
    rig.api.delay_seconds = 0.01
    async with running(rig):
        rig.status(1, "Pending")
        await asyncio.sleep(0.002)
        rig.status(2, "Running")
        rig.status(3, "Failed")
    assert [call.body["status"]["phase"] for call in rig.api.calls] == ["Pending", "Failed"]
    assert rig.api.most_active == 1


async def test_different_objects_are_written_at_once_up_to_the_workers():
    rig = Rig()
    rig.api.delay_seconds = 0.005
    async with running(rig):
        for seq in range(20):
            event = {"metadata": {"name": f"e{seq}"}, "involvedObject": {}}
            rig.submit(seq, "events", event, name=f"e{seq}")
    assert rig.api.most_active == 8
    assert len(rig.hub.acked) == 20


async def test_reports_wait_while_the_api_is_away_and_the_newest_gets_there():
    rig = Rig()
    rig.api.failures = [Disconnected("away"), ApiError("broken")]
    async with running(rig):
        rig.status(1, "Pending")
        await asyncio.sleep(0.01)
        assert not rig.hub.acked
        rig.status(2, "Running")
    assert rig.api.objects[POD]["status"]["phase"] == "Running"
    assert sorted(rig.hub.acked) == [(1, 1), (1, 2)]


async def test_missing_rights_of_the_cloud_lose_no_report():
    rig = Rig()
    rig.api.failures = [Forbidden("kedge-cloud cannot patch pods/status")]
    async with running(rig):
        rig.status(1, "Running")
    assert rig.hub.acked == [(1, 1)]


async def test_missing_rights_of_the_cloud_are_told_now_and_then_with_the_report(caplog):
    rig = Rig()

    def told():
        return [one.message for one in caplog.records if one.levelname == "WARNING"]

    rig.api.failures = [Forbidden("kedge-cloud cannot patch pods/status")] * 3
    async with running(rig):
        rig.status(1, "Running")
    [text] = told()
    assert "node=a" in text
    assert f"object={POD._replace(resource='pods/status')}" in text
    assert text.endswith("cause=kedge-cloud cannot patch pods/status")
    for now, count in ((59.0, 1), (61.0, 2)):
        rig.now = now
        rig.api.failures = [Forbidden("no")]
        async with running(rig):
            rig.status(2, "Failed")
        assert len(told()) == count
    rig.api.objects[NODE] = {"metadata": {"name": "a"}, "status": {}}
    rig.api.failures = [Forbidden("kedge-cloud cannot patch nodes/status")]
    async with running(rig):
        rig.submit(3, "nodes/status", {"metadata": {}, "status": {}}, namespace="", name="a")
    assert "nodes/status" in told()[-1], "each kind has its own turn"


async def test_an_event_in_a_namespace_that_ends_is_done():
    rig = Rig()
    rig.api.failures = [Forbidden("namespace is being terminated")]
    async with running(rig):
        rig.submit(1, "events", {"metadata": {"name": "e"}}, name="e")
    assert rig.hub.acked == [(1, 1)]


@pytest.mark.parametrize("error", [BadRequest("no"), Invalid("bad")])
async def test_a_refusal_that_will_not_change_is_told_to_the_node(error):
    rig = Rig()
    rig.api.failures = [error]
    async with running(rig):
        rig.status(1, "Running")
    assert rig.hub.nacked == [(1, 1, str(error))]
    assert not rig.hub.acked


@pytest.mark.parametrize(
    ("resource", "value", "says"),
    [
        ("pods/status", b"{", "not JSON"),
        ("pods/status", b"[]", "wanted an object with metadata"),
        ("pods/status", b'{"metadata": {}}', "wanted a status"),
        ("pods/deleted", b'{"metadata": {}}', "wanted metadata.uid"),
        ("secrets", b'{"metadata": {}}', "unknown resource: secrets"),
    ],
)
async def test_a_malformed_report_is_refused(resource, value, says):
    rig = Rig()
    async with running(rig):
        rig.submit(1, resource, value)
    [(_, _, reason)] = rig.hub.nacked
    assert says in reason
    assert not rig.api.calls


async def test_a_status_of_a_pod_that_is_gone_or_another_one_is_done():
    rig = Rig()
    rig.api.objects[POD]["metadata"]["uid"] = "u2"
    async with running(rig):
        rig.status(1, "Running")
        rig.status(2, "Running", name="absent")
    assert sorted(rig.hub.acked) == [(1, 1), (1, 2)]
    assert rig.api.objects[POD]["status"] == {}


async def test_a_finished_deletion_removes_that_pod_and_no_other_of_its_name():
    rig = Rig()
    async with running(rig):
        rig.submit(1, "pods/deleted", {"metadata": {"name": "web", "uid": "u0"}})
    assert POD in rig.api.objects
    async with running(rig):
        rig.submit(2, "pods/deleted", {"metadata": {"name": "web", "uid": "u1"}})
    assert POD not in rig.api.objects
    assert rig.api.calls[-1].body == {"gracePeriodSeconds": 0, "preconditions": {"uid": "u1"}}
    async with running(rig):
        rig.submit(3, "pods/deleted", {"metadata": {"name": "web", "uid": "u1"}})
    assert rig.hub.acked == [(1, 1), (1, 2), (1, 3)]


async def test_a_registration_completes_the_node_that_joined_and_the_status_waits_for_it():
    rig = Rig()
    rig.api.objects[NODE] = names.new_node("a", "sha256:one")
    async with running(rig):
        rig.submit(1, "nodes/status", {"metadata": {}, "status": {"x": 1}}, namespace="", name="a")
        await asyncio.sleep(0.01)
        node = {"metadata": {"name": "other", "labels": {"zone": "x"}}}
        rig.submit(2, "nodes/registration", node, namespace="", name="a")
    created = rig.api.objects[NODE]
    assert created["metadata"]["name"] == "a"
    assert created["metadata"]["labels"] == {"zone": "x"} | names.EDGE_LABELS
    assert created["metadata"]["annotations"] == {names.PIN: "sha256:one"}
    assert created["status"] == {"x": 1}
    assert sorted(rig.hub.acked) == [(1, 1), (1, 2)]


async def test_a_registration_does_not_bring_a_deleted_node_back(monkeypatch):
    monkeypatch.setattr(reports, "NODE_ATTEMPTS", 1)
    rig = Rig()
    async with running(rig):
        node = {"metadata": {"labels": {"zone": "x"}}}
        rig.submit(1, "nodes/registration", node, namespace="", name="a")
    assert NODE not in rig.api.objects
    assert [call.verb for call in rig.api.calls] == ["get", "get"]
    assert [(session, seq) for session, seq, _ in rig.hub.nacked] == [(1, 1)]


async def test_a_status_never_comes_before_a_registration_that_the_api_refuses_for_now():
    rig = Rig()
    rig.api.objects[NODE] = {"metadata": {"name": "a"}, "status": {}}
    rig.api.failures = [ApiError("broken"), ApiError("broken")]
    async with running(rig):
        node = {"metadata": {"labels": {"zone": "z"}}}
        ready = {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        rig.submit(2, "nodes/status", ready, namespace="", name="a")
        rig.submit(1, "nodes/registration", node, namespace="", name="a")
    written = [call for call in rig.api.calls if call.verb == "patch"]
    assert [call.subresource for call in written] == ["", "status"]
    assert sorted(rig.hub.acked) == [(1, 1), (1, 2)]


async def test_an_event_seen_again_is_updated():
    rig = Rig()
    for seq, count in ((1, 1), (2, 5)):
        event = {"metadata": {"name": "e"}, "count": count, "message": "m", "involvedObject": {}}
        async with running(rig):
            rig.submit(seq, "events", event, name="e")
    assert rig.api.objects[ObjectKey("", "events", "default", "e")]["count"] == 5
    assert rig.hub.acked == [(1, 1), (1, 2)]


async def test_what_waits_from_a_session_that_ended_is_dropped():
    rig = Rig()
    rig.status(1, "Pending")
    rig.reports.forget("a", 1)
    async with running(rig):
        pass
    assert not rig.api.calls
    assert not rig.hub.acked


async def test_a_report_is_not_tried_again_for_a_session_that_ended():
    rig = Rig()
    rig.api.delay_seconds = 0.01
    rig.api.failures = [Disconnected("away")]
    async with running(rig):
        rig.status(1, "Pending")
        await asyncio.sleep(0.005)
        rig.sessions.disconnected("a", 1)
        rig.reports.forget("a", 1)
    assert len(rig.api.calls) == 1
    assert not rig.hub.acked


async def test_a_report_of_a_new_session_takes_the_place_of_the_old_ones():
    rig = Rig()
    rig.status(9, "Pending")
    rig.status(1, "Running", session=2)
    rig.reports.forget("a", 1)
    async with running(rig):
        pass
    assert rig.hub.acked == [(2, 1)]


def test_a_withdrawn_report_is_no_object():
    report = Report("a", 1, 1, POD, b"")
    with pytest.raises(Invalid):
        decode(report)


CSI_NODE = ObjectKey("storage.k8s.io", "csinodes", "", "a")


async def test_a_nodes_drivers_become_its_csi_node_owned_by_its_node():
    rig = Rig()
    rig.api.objects[NODE] = {"metadata": {"name": "a", "uid": "n1"}}
    drivers = [{"name": "csi.example", "nodeID": "x", "topologyKeys": []}]
    report = {"metadata": {"name": "a"}, "spec": {"drivers": drivers}}
    async with running(rig):
        rig.submit(1, "csinodes", report, namespace="", name="a")
    made = rig.api.objects[CSI_NODE]
    assert made["spec"]["drivers"] == drivers
    assert made["metadata"]["ownerReferences"][0]["uid"] == "n1"
    async with running(rig):
        rig.submit(2, "csinodes", report | {"spec": {"drivers": []}}, namespace="", name="a")
    assert rig.api.objects[CSI_NODE]["spec"]["drivers"] == []


CLAIM = {
    "metadata": {"name": "data", "namespace": "d", "uid": "c1"},
    "spec": {"volumeName": "pv"},
    "status": {"capacity": {"storage": "1Gi"}},
}
VOLUME = {"metadata": {"name": "pv"}, "spec": {"capacity": {"storage": "2Gi"}}}


def sized(size, uid="c1"):
    metadata = {"name": "data", "namespace": "d", "uid": uid}
    return {"metadata": metadata, "status": {"capacity": {"storage": size}}}


def test_a_claim_that_has_grown_has_all_of_its_volume_and_waits_for_nothing():
    patch = claim_patch(sized("2Gi"), CLAIM, VOLUME)
    assert patch["metadata"] == {"uid": "c1"}
    assert patch["status"]["capacity"] == {"storage": "2Gi"}
    assert patch["status"]["allocatedResourceStatuses"] == {"storage": None}
    assert {one["type"] for one in patch["status"]["conditions"]} == {
        "FileSystemResizePending",
        "Resizing",
    }


def test_a_report_on_another_claim_or_an_older_size_changes_nothing():
    assert claim_patch(sized("2Gi", "before"), CLAIM, VOLUME) == {}
    assert claim_patch(sized("2Gi"), CLAIM, None) == {}
    assert claim_patch(sized("1536Mi"), CLAIM, VOLUME) == {}


@pytest.mark.parametrize("size", ["3Gi", "much", "", None, 7, {"a": 1}])
def test_a_size_that_is_not_the_volumes_is_refused(size):
    with pytest.raises(Invalid, match="wanted its volume's, 2Gi"):
        claim_patch(sized(size), CLAIM, VOLUME)


async def test_a_report_of_a_claims_size_is_written_once_the_volume_is_known():
    rig = Rig()
    key = ObjectKey("", "persistentvolumeclaims", "d", "data")
    rig.api.objects[key] = dict(CLAIM)
    rig.mirror.put(key, CLAIM)
    rig.mirror.put(ObjectKey("", "persistentvolumes", "", "pv"), VOLUME)
    async with running(rig):
        rig.submit(1, "persistentvolumeclaims/size", sized("2Gi"), namespace="d", name="data")
    assert rig.api.objects[key]["status"]["capacity"] == {"storage": "2Gi"}
