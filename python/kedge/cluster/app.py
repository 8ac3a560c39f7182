# SPDX-License-Identifier: Apache-2.0
"""The embedded cluster put together: store, API server, controllers, scheduler, one task group."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge.api.kinds import KINDS, REVIEWS, USAGE
from kedge.cluster import audit_policy, bootstrap, checks, copying, credentials, roles
from kedge.cluster.apiserver import documents
from kedge.cluster.apiserver.access import Access, Escalation
from kedge.cluster.apiserver.admission.webhooks.tunnel import ApiServer
from kedge.cluster.apiserver.dispatcher import Dispatcher
from kedge.cluster.apiserver.event_expiry import EventExpiry
from kedge.cluster.apiserver.node_access import NodeAccess
from kedge.cluster.apiserver.registry import Registry
from kedge.cluster.apiserver.reviews import Reviews
from kedge.cluster.apiserver.server import Server, ServerConfig, StaticToken
from kedge.cluster.apiserver.signers import Signers
from kedge.cluster.apiserver.tokens import Tokens
from kedge.cluster.config import outward_address, split_address
from kedge.cluster.controllers import Config as ControllersConfig
from kedge.cluster.controllers import all_controllers
from kedge.cluster.machinery.client import SCHEDULER, Client
from kedge.cluster.machinery.informer import Informer
from kedge.cluster.scheduler.loop import Scheduler
from kedge.cluster.usage import Usage
from kedge.errors import KedgeError
from kedge.hub import certificates
from kedge.store import Store

if TYPE_CHECKING:
    from kedge.cluster.config import ClusterConfig
    from kedge.runtime import Runtime

log = logging.getLogger(__name__)

_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - recognized, not listened on


async def serve(config: ClusterConfig, runtime: Runtime) -> None:
    """Runs the cluster until cancelled.

    Raises:
        ConfigError: the store is damaged, or a file cannot be used; the message names the way on.
    """
    checks.directory(config.data_dir)
    store = open_store(config.data_dir / "store", config.history, config.history_seconds)
    try:
        checks.keys(config.data_dir / "pki", store)
        async with asyncio.TaskGroup() as group:
            group.create_task(store.run())
            group.create_task(copying.Copies(store, config.data_dir).run())
            await _start(config, runtime, store, group)
    finally:
        store.close()


async def _start(
    config: ClusterConfig, runtime: Runtime, store: Store, group: asyncio.TaskGroup
) -> None:
    host, port = split_address(config.listen)
    registry = Registry(store, config.service_cidr)
    await bootstrap.prepare(registry, port)
    await roles.prepare(registry)
    own = [] if host in _ANYWHERE else [host]
    own += [f"*.{config.node_domain}"] if config.node_domain else []
    pki = credentials.prepare(
        config.data_dir / "pki", [*own, registry.allocator.first, *config.names]
    )
    tokens = Tokens(registry, pki.accounts_key, config.issuer)
    access = Access()
    registry.guard(Escalation(access, store), Signers(access))
    dispatcher = Dispatcher(registry, tokens, Reviews(tokens, access, store))
    own_token = certificates.random_token()
    server = Server(runtime, store, _server_config(config, pki, own_token), dispatcher.handle)
    access.decider = server
    registry.reach_pods(ApiServer(_reachable(host), server.port, own_token, pki.ca.certificate))
    address = f"{_reachable(host)}:{server.port}"
    documents.serve_discovery(server, address, tokens.jwks(), config.issuer)
    documents.expect_openapi(server)
    for name, who in (("kubeconfig", credentials.ADMIN), ("cloud.kubeconfig", credentials.CLOUD)):
        credentials.write_kubeconfig(config.data_dir / name, pki.ca, f"https://{address}", who)
    group.create_task(_closing(server))
    group.create_task(documents.serve_openapi(server, config.data_dir / "openapi"))
    group.create_task(EventExpiry(store, config.event_ttl_seconds).run())
    group.create_task(NodeAccess(store, server).run())
    informer = Informer(store)
    client = Client(registry, informer)
    group.create_task(informer.run())
    settings = ControllersConfig(
        ca_pem=pki.ca.certificate,
        authority=pki.ca,
        access=access,
        address=outward_address(host),
        port=server.port,
        ask=Usage(runtime, config.data_dir / "kubeconfig", group).ask,
    )
    for component in all_controllers(client, informer, settings):
        group.create_task(component.run())
    scheduling = Client(registry, informer, SCHEDULER)
    group.create_task(Scheduler(scheduling, informer).run())
    log.info("the API server listens", extra={"address": address})


async def _closing(server: Server) -> None:
    try:
        await server.run()
    finally:
        server.close()


def _server_config(
    config: ClusterConfig, pki: credentials.Credentials, own_token: str
) -> ServerConfig:
    return ServerConfig(
        listen=config.listen,
        certificate=pki.server.certificate,
        key=pki.server.key,
        client_ca=pki.ca.certificate,
        service_account_keys=(pki.accounts_key,),
        issuer=config.issuer,
        node_domain=config.node_domain,
        tokens=(StaticToken(own_token, "system:apiserver", ("system:masters",)),),
        audit=_audit(config),
        resources=[asdict(kind) for kind in (*KINDS, *REVIEWS, *USAGE)],
    )


def _audit(config: ClusterConfig) -> dict[str, Any] | None:
    if not config.audit_policy_file:
        return None
    return {
        "policy": audit_policy.read(Path(config.audit_policy_file)),
        "log": {
            "path": config.audit_log_path or str(config.data_dir / "audit.log"),
            "max_bytes": config.audit_log_max_size * 1_000_000,
            "max_age_days": config.audit_log_max_age,
            "max_backups": config.audit_log_max_backup,
        },
    }


def _reachable(host: str) -> str:
    """The address for this machine's own clients."""
    if host in _ANYWHERE:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def open_store(directory: Path, history: int, history_seconds: float) -> Store:
    """The cluster's store.

    Raises:
        ConfigError: it cannot be used; the message says how to go on.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return Store.open(
            directory, mode="primary", history=history, history_seconds=history_seconds
        )
    except KedgeError as error:
        raise checks.unusable(directory, error) from error
