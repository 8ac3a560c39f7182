# SPDX-License-Identifier: Apache-2.0
"""Assembles the cloud role: API client, mirror, hub and what stands between them."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from kedge.aio import Backoff, run
from kedge.cloud import authority, mirroring
from kedge.cloud.dispatch import Dispatcher
from kedge.cloud.expired_tokens import ExpiredTokens
from kedge.cloud.joining import Joining
from kedge.cloud.leases import Leases
from kedge.cloud.leaving import Leaving
from kedge.cloud.lookups import Lookups
from kedge.cloud.pod_tokens import PodTokens
from kedge.cloud.renewal import Renewal
from kedge.cloud.reports import Reports
from kedge.cloud.sessions import Sessions
from kedge.cloud.token_issuers import TokenIssuers
from kedge.errors import ApiError, Corrupt, Disconnected, Invalid
from kedge.hub.server import HubServer
from kedge.kube import KubeClient, Mirror
from kedge.store import Store, set_aside

if TYPE_CHECKING:
    from kedge.cloud.config import CloudConfig
    from kedge.runtime import Runtime

log = logging.getLogger(__name__)


async def serve(config: CloudConfig, runtime: Runtime) -> None:
    """Runs the cloud role until cancelled."""
    client = KubeClient.from_kubeconfig(runtime, Path(config.kubeconfig))
    store = _open_mirror(Path(config.data_dir))
    try:
        await run(client.run(), store.run(), _serve(config, runtime, client, store))
    finally:
        store.close()


def _open_mirror(data_dir: Path) -> Store:
    """The mirror's store; a damaged one is thrown away, for the API has it all."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = data_dir / "mirror"
    try:
        return Store.open(path, mode="replica", durable=False)
    except Corrupt as error:
        log.warning("the mirror is damaged and will be filled again: %s", error)
        shutil.rmtree(set_aside(path))
        return Store.open(path, mode="replica", durable=False)


async def _serve(config: CloudConfig, runtime: Runtime, client: KubeClient, store: Store) -> None:
    trusted = await _authority(client)
    mirror = Mirror(runtime, client, store, mirroring.ROWS)
    first = authority.server_certificate(trusted, config)
    hub = HubServer(
        runtime, store, listen=config.listen, ca=trusted.ca.certificate, certificate=first
    )
    _offer_api(hub, runtime, client)
    sessions = Sessions()
    as_nodes = client.acting_as("kubelet")
    reports = Reports(
        as_nodes,
        store,
        sessions,
        hub,
        workers=config.report_workers,
        node_domain=config.node_domain,
    )
    leases = Leases(
        as_nodes,
        store,
        sessions,
        every_seconds=config.lease_seconds,
        reached_at=config.reached_at(hub.port),
    )
    pod_tokens = PodTokens(client, store, sessions, renew_at=config.token_renew_at)
    issuers = TokenIssuers(client, store)
    dispatcher = Dispatcher(
        hub=hub,
        sessions=sessions,
        reports=reports,
        leases=leases,
        pod_tokens=pod_tokens,
        joining=Joining(client, trusted, config),
        renewals=Renewal(client, trusted, config, hub.allow_key),
        lookups=Lookups(client),
        leaving=Leaving(client),
    )
    certificate = authority.ServerCertificate(trusted, config, first, hub.set_certificate)
    log.info("hub listens port=%d", hub.port)
    try:
        await run(
            mirror.run(),
            dispatcher.run(),
            reports.run(),
            leases.run(),
            pod_tokens.run(),
            issuers.run(),
            certificate.run(),
            ExpiredTokens(client).run(),
            _open(hub, mirror, issuers),
        )
    finally:
        hub.close()
        mirror.close()


def _offer_api(hub: HubServer, runtime: Runtime, client: KubeClient) -> None:
    cluster = client.cluster
    try:
        hub.offer_api(runtime, cluster.server, cluster.ca, cluster.server_name)
    except Invalid as error:
        log.warning("pods of nodes cannot reach the API server: %s", error)


async def _open(hub: HubServer, mirror: Mirror, issuers: TokenIssuers) -> None:
    """Links begin when the mirror is complete; joins were answered before."""
    await mirror.synced()
    await issuers.known()
    hub.open()
    log.info("nodes may connect")


async def _authority(client: KubeClient) -> authority.Authority:
    """The authority, as soon as the API answers."""
    backoff = Backoff(0.2, 5.0)
    while True:
        try:
            return await authority.load(client)
        except (Disconnected, ApiError) as error:
            level = logging.WARNING if backoff.attempts > 3 else logging.DEBUG
            log.log(level, "the API does not give the authority yet: %s", error)
            await asyncio.sleep(backoff.next_seconds())
