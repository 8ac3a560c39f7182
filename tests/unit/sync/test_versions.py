# SPDX-License-Identifier: Apache-2.0
"""What a node gets of an object, and how copies are compared: as Python sees it."""

from __future__ import annotations

import hashlib
import json

from kedge.api.keys import ObjectKey
from kedge.sync import digest, project, version

POD = ObjectKey("", "pods", "default", "web")


def test_a_pod_leaves_without_status_and_resource_version() -> None:
    pod = {
        "metadata": {"name": "web", "resourceVersion": "7"},
        "spec": {},
        "status": {"phase": "Running"},
    }
    got = project(POD, json.dumps(pod).encode())
    assert got == b'{"metadata":{"name":"web"},"spec":{}}'
    assert project(POD, b"[]") is None


def test_a_version_is_the_start_of_the_hash() -> None:
    assert version(b"{}") == int.from_bytes(hashlib.sha256(b"{}").digest()[:8])


def test_a_digest_is_the_sum_of_what_link_md_says() -> None:
    versions = {POD: 7, ObjectKey("", "nodes", "", "edge-1"): 2**63}
    total = 0
    for key, number in versions.items():
        text = b"".join(part.encode() + b"\0" for part in key) + number.to_bytes(8)
        total += int.from_bytes(hashlib.sha256(text).digest()[:16])
    assert digest(versions) == ((total % 2**128).to_bytes(16), 2)
