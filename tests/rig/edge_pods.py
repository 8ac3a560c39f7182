# SPDX-License-Identifier: Apache-2.0
"""Pods for a node without a cloud, as its store has them."""

from __future__ import annotations

from typing import Any

from tests.rig.edge import EdgeNode
from tests.rig.pods import IMAGE

SERVE = "mkdir -p /www; echo ok > /www/index.html; exec httpd -f -p 8080 -h /www"
"""A web server on port 8080."""


def container(script: str, name: str = "main", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        **more,
    }


def pod(name: str, *containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    number = sum(name.encode()) * 1000 + len(name)
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"00000000-0000-0000-0000-{number:012d}",
        },
        "spec": {
            "containers": list(containers),
            "terminationGracePeriodSeconds": 1,
            "nodeName": "edge-1",
            **more,
        },
    }


def is_ready(node: EdgeNode, name: str) -> bool:
    return node.pods().get(name, {}).get("ready") == "1/1"
