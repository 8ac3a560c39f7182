# SPDX-License-Identifier: Apache-2.0
"""Whether to attach, detach, refuse or wait; without a cluster."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kedge.cluster.controllers.attachments import plan
from kedge.cluster.machinery import records, storage

NAME = plan.name_of("csi.example", "v1", "n1")
IN_USE = plan.unique_name("csi.example", "v1")


def attachment(node: str = "n1", **metadata: Any) -> storage.Attachment:
    source = {"persistentVolumeName": "pv"}
    body = {
        "metadata": {"name": plan.name_of("csi.example", "v1", node)} | metadata,
        "spec": {"attacher": "csi.example", "nodeName": node, "source": source},
    }
    return storage.attachment_of(msgspec.json.encode(body), 1)


def node(ready: str = "True", *, in_use: bool = True, taint: str = "") -> records.Node:
    body = {
        "metadata": {"name": "n1"},
        "spec": {"taints": [{"key": taint}] if taint else []},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "volumesInUse": ["kedge.io/local-path/a", *([IN_USE] if in_use else [])],
        },
    }
    return records.node_of(msgspec.json.encode(body), 1)


def test_an_attachments_name_is_kubernetes() -> None:
    # printf v1csi.examplen1 | sha256sum
    assert NAME == "csi-f17de451ecbcf3329c4a70ffef38570439072b05a6f745304e4ed730eabf6fa3"
    assert plan.is_ours(NAME)
    assert not plan.is_ours("csi-mine")


@pytest.mark.parametrize(
    ("present", "others", "wanted"),
    [
        (None, [], plan.Attach()),
        (attachment(), [], plan.Wait()),
        (attachment(deletionTimestamp="2026-01-01T00:00:00Z"), [], plan.Wait()),
        (None, [attachment("n3"), attachment("n2")], plan.Refuse(("n2", "n3"))),
        (attachment(), [attachment("n2")], plan.Wait()),
    ],
)
def test_where_a_pod_needs_it(present: Any, others: Any, wanted: plan.Decision) -> None:
    assert plan.to_have(present, others) == wanted


@pytest.mark.parametrize(
    ("where", "waited", "wanted"),
    [
        (None, 0.0, plan.Detach()),
        (node(in_use=False), 0.0, plan.Detach()),
        (node("Unknown", in_use=False), 0.0, plan.Detach()),
        (node(), 9e9, plan.Wait()),
        (node("Unknown"), 100.0, plan.Wait(260.0)),
        (node("False"), 360.0, plan.Detach(is_forced=True)),
        (node(taint="node.kubernetes.io/out-of-service"), 0.0, plan.Detach(is_forced=True)),
    ],
)
def test_where_no_pod_needs_it(where: Any, waited: float, wanted: plan.Decision) -> None:
    assert plan.to_let_go(attachment(), where, waited) == wanted


def test_what_is_on_its_way_out_is_its_attachers() -> None:
    leaving = attachment(deletionTimestamp="2026-01-01T00:00:00Z")
    assert plan.to_let_go(leaving, None, 0.0) == plan.Wait()


@pytest.mark.parametrize(
    ("modes", "wanted"),
    [
        ((), False),
        (("ReadWriteOnce",), True),
        (("ReadWriteOncePod",), True),
        (("ReadWriteOnce", "ReadOnlyMany"), False),
        (("ReadWriteMany",), False),
    ],
)
def test_who_may_share(modes: tuple[str, ...], wanted: bool) -> None:
    assert plan.is_exclusive(modes) is wanted
