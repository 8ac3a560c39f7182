# SPDX-License-Identifier: Apache-2.0
"""Programs that run as if in a pod: in its network, with its environment and its ServiceAccount volume.

The test images have nothing but busybox, so an unmodified client (Python's, kubectl) is started in the
pod's network namespace instead, with the pod's volume where an in-cluster client looks for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.rig.containerd import PATH, Containerd
from tests.rig.processes import wait_until
from tests.rig.system import System

SECRETS = "/run/secrets/kubernetes.io/serviceaccount"
ENTER = f'mount -t tmpfs none /run && mkdir -p {SECRETS} && mount --bind "$1" {SECRETS} && shift && exec "$@"'


RULES = [
    {
        "apiGroups": [""],
        "resources": ["pods", "configmaps"],
        "verbs": ["get", "list", "watch", "create", "update", "patch"],
    },
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]},
]


def grant(
    system: System, *more: dict[str, Any], of_cluster: tuple[dict[str, Any], ...] = ()
) -> None:
    """Lets the default ServiceAccount do what the tests do; ``of_cluster`` is for all namespaces."""
    group = "rbac.authorization.k8s.io"
    access = f"/apis/{group}/v1"
    subjects = [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]
    for place, kind, rules in (
        ("/namespaces/default", "Role", [*RULES, *more]),
        ("", "ClusterRole", list(of_cluster)),
    ):
        if rules:
            at, plural = f"{access}{place}", kind.lower()
            system.api.create(f"{at}/{plural}s", {"metadata": {"name": "test"}, "rules": rules})
            role = {"apiGroup": group, "kind": kind, "name": "test"}
            binding = {"metadata": {"name": "test"}, "roleRef": role, "subjects": subjects}
            system.api.create(f"{at}/{plural}bindings", binding)


class InPod:
    """One pod's view of the world.

    Args:
        containerd: the runtime that it runs in.
        data: the agent's directory.
        pod: its name.
    """

    def __init__(self, containerd: Containerd, data: Path, pod: str) -> None:
        self._containerd = containerd
        self._data = data
        self._pod = pod
        self.uid = ""
        self.volume = Path()
        """The directory with ``token``, ``ca.crt`` and ``namespace``."""
        self._namespace = ""
        self.environment: dict[str, str] = {}
        wait_until(self._look, 20, f"pod {pod} runs")

    def _look(self) -> bool:
        for container in self._containerd.running_tasks():
            info = json.loads(self._containerd.ctr("containers", "info", container))
            labels = info.get("Labels") or {}
            if labels.get("io.kubernetes.pod.name") != self._pod:
                continue
            self.uid = labels["io.kubernetes.pod.uid"]
            spec = info["Spec"]
            for entry in spec["linux"]["namespaces"]:
                if entry["type"] == "network" and "/netns/" in entry.get("path", ""):
                    self._namespace = Path(entry["path"]).name
            if labels.get("io.cri-containerd.kind") != "sandbox":
                pairs = (one.partition("=") for one in spec["process"]["env"])
                self.environment = {name: value for name, _, value in pairs}
                sources = [Path(one["source"]) for one in spec["mounts"]]
                self.volume = next(one for one in sources if (one / "token").exists())
        return bool(self._namespace and self.environment)

    @property
    def token(self) -> str:
        """The token that the pod has now."""
        return (self.volume / "token").read_text()

    def url(self, path: str) -> str:
        """Where a path is, as the pod's environment says."""
        host, port = (self.environment[f"KUBERNETES_SERVICE_{part}"] for part in ("HOST", "PORT"))
        return f"https://{host}:{port}{path}"

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        """Starts a program there."""
        whole = ["ip", "netns", "exec", self._namespace, "sh", "-c", ENTER, "sh", str(self.volume)]
        environment = {
            "PATH": PATH,
            "HOME": str(self._data),
            **{k: v for k, v in self.environment.items() if k.startswith("KUBERNETES_")},
            **more,
        }
        return subprocess.Popen(
            [*whole, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, *command: str, code: int = 0, **more: str) -> str:
        """Runs a program there to its end; its output, both streams when it must fail."""
        process = self.start(*command, **more)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == code, f"{command}: {process.returncode}: {out}\n{errors}"
        return out if code == 0 else out + errors

    def python(self, program: str, *words: str) -> str:
        """Runs a Python program with the official client configured as in a cluster."""
        return self.run(sys.executable, "-W", "ignore", "-c", PRELUDE + program, *words)

    def start_python(self, program: str, *words: str) -> subprocess.Popen[str]:
        """Starts one."""
        return self.start(sys.executable, "-W", "ignore", "-u", "-c", PRELUDE + program, *words)


PRELUDE = """
import json, sys, time
import kubernetes
from kubernetes.client.rest import ApiException
kubernetes.config.load_incluster_config()
core = kubernetes.client.CoreV1Api()
def show(value):
    print(json.dumps(value), flush=True)
"""


def curl(url: str, token: str = "", ca: Path | None = None, method: str = "GET") -> tuple[int, str]:
    """Asks with curl; the status and the body."""
    trust = ["--insecure"] if ca is None else ["--cacert", str(ca)]
    head = ["--header", f"Authorization: Bearer {token}"] if token else []
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--request", method]
    command += [*trust, *head, "--write-out", "\n%{http_code}", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    body, _, code = done.stdout.rpartition("\n")
    return int(code), body


def answers(url: str) -> bool:
    """Whether anything is answered there with 200."""
    return answers_as(url, "")


def answers_as(url: str, token: str) -> bool:
    """The same for a token."""
    try:
        return curl(url, token)[0] == 200
    except subprocess.CalledProcessError:
        return False
