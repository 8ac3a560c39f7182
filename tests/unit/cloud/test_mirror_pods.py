# SPDX-License-Identifier: Apache-2.0
"""What a mirror pod that a node reports may say."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.cloud.mirror_pods import mirror_pod
from kedge.errors import Invalid

NODE = {"metadata": {"name": "n1", "uid": "node-uid"}}


def reported(**spec: Any) -> dict[str, Any]:
    metadata = {
        "name": "web-n1",
        "namespace": "default",
        "uid": "forged",
        "finalizers": ["never/goes"],
        "ownerReferences": [{"uid": "forged"}],
        "labels": {"app": "web"},
        "annotations": {"kubernetes.io/config.mirror": "s1"},
    }
    return {
        "metadata": metadata,
        "spec": {"nodeName": "n1", "containers": [], **spec},
        "status": {},
    }


def test_a_mirror_pod_is_its_nodes_and_carries_only_what_it_may() -> None:
    made = mirror_pod(reported(), NODE)
    metadata = made["metadata"]
    assert metadata.keys() == {"name", "namespace", "labels", "annotations", "ownerReferences"}
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Node", "n1", "node-uid")
    assert "status" not in made


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("another node", reported(nodeName="n2"), "wanted spec.nodeName: n1"),
    ("no node", reported(nodeName=""), "wanted spec.nodeName: n1"),
    ("a secret", reported(volumes=[{"name": "v", "secret": {"secretName": "s"}}]), "may not refer"),
    ("an account", reported(serviceAccountName="admin"), "may not refer"),
    ("no mirror", {**reported(), "metadata": {"name": "a", "namespace": "b"}}, "wanted the annotation"),
    ("no spec", {**reported(), "spec": []}, "wanted spec.nodeName"),
    ("odd volumes", reported(volumes=["x"]), "not a pod"),
    ("odd containers", reported(containers=7), "not a pod"),
]  # fmt: skip


@pytest.mark.parametrize(("held", "wanted"), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
def test_another_one_is_refused(held: dict[str, Any], wanted: str) -> None:
    with pytest.raises(Invalid, match=wanted):
        mirror_pod(held, NODE)
