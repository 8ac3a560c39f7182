# SPDX-License-Identifier: Apache-2.0
"""Pods and Deployments as tests, the demo and benches create them."""

from __future__ import annotations

from typing import Any

IMAGE = "docker.io/library/busybox:latest"


def pod(name: str, node: str | None = None, config_map: str | None = None) -> dict[str, Any]:
    """A pod that sleeps; it has the default ServiceAccount volume that admission adds."""
    container: dict[str, Any] = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "1000000"],
    }
    spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 0}
    if node is not None:
        spec["nodeName"] = node
    if config_map is not None:
        container["volumeMounts"] = [{"name": "config", "mountPath": "/etc/config"}]
        spec["volumes"] = [{"name": "config", "configMap": {"name": config_map}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "sleep"}},
        "spec": spec,
    }


def deployment(name: str, replicas: int) -> dict[str, Any]:
    """A Deployment of sleeping pods."""
    template = pod(name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": template["spec"]},
        },
    }
