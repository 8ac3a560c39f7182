# SPDX-License-Identifier: Apache-2.0
"""The agent's side of the link: its certificate files, its state for ``status.json``, who is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kedge.aio import run
from kedge.errors import ConfigError, KedgeError
from kedge.hub.certificates import Pair
from kedge.hub.client import HubClient, read_link_record
from kedge.hub.renewal import CertificateRenewal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from kedge.edge.config import EdgeConfig
    from kedge.edge.kubelet.serving.face import KubeletServer
    from kedge.runtime import Runtime
    from kedge.store import Store

__all__ = ["KedgeError", "Link", "open_link", "summary", "waiting"]


class Link:
    """A node's link to its cloud.

    Args:
        client: the link itself.
        pki: where its certificate is.
    """

    def __init__(self, client: HubClient, pki: Path) -> None:
        self.client = client
        self._renewal = CertificateRenewal(client, pki)

    async def run(self) -> None:
        """Keeps the link, and its certificate fresh, until cancelled."""
        await run(self.client.run(), self._renewal.run())

    async def follow(self, *, up: Callable[[], None], synced: Callable[[], None]) -> None:
        """Calls ``up`` whenever the link comes up, ``synced`` whenever the view is complete then."""
        await run(self._each(self.client.connected, up), self._each(self.client.synced, synced))

    async def _each(self, state: Callable[[], Awaitable[None]], told: Callable[[], None]) -> None:
        while True:
            await state()
            told()
            await self.client.disconnected()


def open_link(
    config: EdgeConfig, runtime: Runtime, store: Store, server: KubeletServer
) -> Link | None:
    """The link that the configuration asks for, if any; it carries connections to ``server``.

    Raises:
        ConfigError: a certificate file cannot be read.
    """
    if not config.cloud:
        return None
    pki = config.data_dir / "pki"
    pair = Pair(_read(pki / "node.crt"), _read(pki / "node.key"))
    client = HubClient(
        runtime,
        store,
        server=config.cloud,
        node=config.node_name,
        ca=_read(pki / "ca.crt"),
        certificate=pair,
        kubelet=server.handle,
    )
    return Link(client, pki)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read, join this node first (kedge join): {error}"
        ) from error


def handle_of(link: Link | None) -> HubClient | None:
    """The link's client."""
    return None if link is None else link.client


def summary(link: Link | None, cloud: str) -> dict[str, Any]:
    """The link in ``status.json``."""
    if link is None:
        return {"state": "none", "since": None, "lastError": "", "cloud": ""}
    status = link.client.status()
    since = datetime.fromtimestamp(status.since_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "state": "connected" if status.connected else "connecting",
        "since": since,
        "lastError": "" if status.connected else status.last_error,
        "cloud": cloud,
    }


def waiting(link: Link | None, store: Store) -> int:
    """How many reports the cloud has not acknowledged."""
    return (
        link.client.status().waiting
        if link is not None
        else int(read_link_record(store)["waiting"])
    )
