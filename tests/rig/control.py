# SPDX-License-Identifier: Apache-2.0
"""A control plane alone: ``python -m kedge.cluster``, without cloud or node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rig.api import Api, Failed
from tests.rig.processes import Process, free_port, wait_until

NEEDED = ("/api/v1/namespaces/default/serviceaccounts/default", "/openapi/v3/apis/apps/v1")


@contextmanager
def cluster(directory: Path, *more: str) -> Iterator[Path]:
    """A running cluster, with more flags; its kubeconfig. It must end cleanly when it is stopped."""
    kubeconfig = directory / "data" / "kubeconfig"
    words = ["-m", "kedge.cluster", "--data-dir", str(directory / "data")]
    words += ["--listen", f"127.0.0.1:{free_port()}", *more]
    process = Process(words, log=directory / "log")

    def answers() -> bool:
        if not kubeconfig.exists():
            return False
        api = Api(kubeconfig)
        try:
            return all(api.get(path) for path in NEEDED)
        except (Failed, OSError):
            return False
        finally:
            api.close()

    try:
        wait_until(answers, 30, "the cluster answers", alive=process)
        yield kubeconfig
        assert process.stop() == 0, process.tail()
    finally:
        process.stop()
