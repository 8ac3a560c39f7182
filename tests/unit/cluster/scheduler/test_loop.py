# SPDX-License-Identifier: Apache-2.0
"""What the scheduler says of what it does not read."""

from __future__ import annotations

import json

from kedge.cluster.machinery.records import pod_of
from kedge.cluster.scheduler.loop import unread


def test_affinity_between_pods_is_noticed_and_nothing_else() -> None:
    def named(**affinity: object) -> list[str]:
        spec = {"containers": [{"name": "a"}], "affinity": affinity}
        value = {"metadata": {"name": "a", "namespace": "d", "uid": "u"}, "spec": spec}
        pending = pod_of(json.dumps(value).encode(), 1).pending
        assert pending is not None
        return unread(pending)

    term = [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": term}
    assert named(podAntiAffinity=required) == ["podAntiAffinity"]
    assert named(podAffinity=required, podAntiAffinity={}) == ["podAffinity", "podAntiAffinity"]
    assert named(nodeAffinity={}) == []
