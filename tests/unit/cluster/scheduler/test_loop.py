# SPDX-License-Identifier: Apache-2.0
"""What the scheduler says of what it does not read."""

from __future__ import annotations

import json

from kedge.cluster.machinery.records import pod_of
from kedge.cluster.scheduler.loop import unread


def named(**spec: object) -> list[str]:
    held = {"containers": [{"name": "a"}], **spec}
    value = {"metadata": {"name": "a", "namespace": "d", "uid": "u"}, "spec": held}
    pending = pod_of(json.dumps(value).encode(), 1).pending
    assert pending is not None
    return unread(pending)


def test_affinity_between_pods_is_noticed_and_nothing_else() -> None:
    term = [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": term}
    assert named(affinity={"podAntiAffinity": required}) == ["affinity.podAntiAffinity"]
    assert named(affinity={"podAffinity": required}) == ["affinity.podAffinity"]
    assert named(affinity={"nodeAffinity": {}}) == []


def test_policies_of_spreading_are_noticed_where_they_would_count_otherwise() -> None:
    def spread(**policies: str) -> list[str]:
        one = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
        return named(topologySpreadConstraints=[one | policies])

    assert spread(nodeAffinityPolicy="Honor", nodeTaintsPolicy="Ignore") == []
    assert spread(nodeTaintsPolicy="Honor") == ["topologySpreadConstraints.nodeTaintsPolicy"]
    assert spread(nodeAffinityPolicy="Ignore") == ["topologySpreadConstraints.nodeAffinityPolicy"]
