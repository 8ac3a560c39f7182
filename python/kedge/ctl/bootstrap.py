# SPDX-License-Identifier: Apache-2.0
"""The part of ``kedge up`` that ends: waits until everything answers, joins the local node, says so.

Run as a child by ``kedge.ctl.supervisor``, which is too small for TLS. It asks the real endpoints:
the API server's ``/readyz``, the hub's port, the Node's Ready condition. The administrator's
kubeconfig is copied to ``DIR/kubeconfig``, where people look for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.ctl import join, token_commands
from kedge.ctl.failure import Failure
from kedge.errors import ApiError, Disconnected, NotFound
from kedge.files import write_whole
from kedge.hub import tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kedge.kube import KubeClient

POLL_SECONDS = 0.05
READY_SECONDS = 60.0
TOKEN_SECONDS = 300.0


def main() -> int:
    """Makes ``kedge up`` usable; its options as JSON in the only argument."""
    started = time.monotonic()
    options = json.loads(sys.argv[1])
    root = Path(options["directory"])
    try:
        kubeconfig = _publish(root)
        token_commands.with_client(kubeconfig, lambda client: _prepare(client, options, started))
    except Failure as failure:
        say(failure.text())
        return 1
    return 0


def _publish(root: Path) -> Path:
    """Copies the administrator's kubeconfig, as soon as the cluster wrote it."""
    source, target = root / "cluster" / "kubeconfig", root / "kubeconfig"
    until = time.monotonic() + READY_SECONDS
    while not source.exists():
        if time.monotonic() > until:
            raise late("the cluster did not write its kubeconfig", root)
        time.sleep(POLL_SECONDS)
    write_whole(target, source.read_bytes())
    return target


async def _prepare(client: KubeClient, options: dict[str, Any], started: float) -> None:
    root = Path(options["directory"])
    await _until(lambda: _is_ready(client), "the API server is not ready", root)
    await _until(lambda: _listens(options["hub_port"]), "the hub does not listen", root)
    say(_welcome(options, time.monotonic() - started))
    if not options["edge"]:
        return
    if not (root / "edge" / "edge.yaml").exists():
        await _join(client, options)
    name = options["node_name"]
    await _until(lambda: _node_ready(client, name), f"node {name} is not Ready", root)
    say(f"node {name} is Ready after {time.monotonic() - started:.1f} s")


async def _join(client: KubeClient, options: dict[str, Any]) -> None:
    """Joins the local node with a token that is gone afterwards."""
    grant = tokens.new_grant(time.time(), TOKEN_SECONDS, node=options["node_name"], rejoin=True)
    token = await token_commands.issue(client, grant)
    try:
        await asyncio.to_thread(
            join.run,
            cloud=f"127.0.0.1:{options['hub_port']}",
            token=token,
            node_name=options["node_name"],
            directory=Path(options["directory"]) / "edge",
            runtime_endpoint=options["runtime_endpoint"],
            network="bridge",
        )
    finally:
        await client.delete(ObjectKey("", "secrets", tokens.NAMESPACE, grant.secret_name))


async def _until(check: Callable[[], Awaitable[bool]], problem: str, root: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while not await check():
        if time.monotonic() > until:
            raise late(problem, root)
        await asyncio.sleep(POLL_SECONDS)


def late(problem: str, root: Path) -> Failure:
    """Something did not happen in time."""
    return Failure(
        "Timeout", f"{problem} within {READY_SECONDS:g} s", f"look into the logs in {root / 'logs'}"
    )


async def _is_ready(client: KubeClient) -> bool:
    try:
        status, _ = await client.raw("GET", "/readyz", timeout_seconds=2)
    except Disconnected:
        return False
    return status == 200


async def _listens(port: int) -> bool:
    def probe() -> bool:
        with socket.socket() as connection:
            connection.settimeout(2)
            return connection.connect_ex(("127.0.0.1", port)) == 0

    return await asyncio.to_thread(probe)


async def _node_ready(client: KubeClient, name: str) -> bool:
    try:
        node = await client.get(ObjectKey("", "nodes", "", name))
    except (NotFound, Disconnected, ApiError):
        return False
    conditions = node.get("status", {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _welcome(options: dict[str, Any], seconds: float) -> str:
    root = options["directory"]
    return "\n".join(
        [
            f"kedge is up after {seconds:.1f} s; its logs are in {root}/logs",
            "",
            f"    export KUBECONFIG={root}/kubeconfig",
            "    kubectl get nodes",
            "",
            "join another machine, with what this prints:",
            "",
            "    kedge token create",
            f"    kedge join --cloud HOST:{options['hub_port']} --token TOKEN --node-name NAME",
            "",
        ]
    )


def say(text: str) -> None:
    """To the terminal, at once."""
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
