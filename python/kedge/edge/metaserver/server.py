# SPDX-License-Identifier: Apache-2.0
"""The MetaServer: the face of the extension's ``ApiServer`` over the node's replica.

All of it is served in Rust; here it is told what to serve, given its addresses, and kept listening.
What cannot be listened on (another node on the same machine, most likely) is said in an Event and in
``status.json`` and tried again; the agent goes on without.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any

from kedge import _core  # noqa: TID251 - this file is the face of _core.ApiServer on a node
from kedge.aio import Backoff
from kedge.edge.metaserver import address, identity, operator
from kedge.edge.metaserver.kinds import VIEW
from kedge.edge.metaserver.objects import NodeObjects
from kedge.edge.metaserver.tokens import TokenKeeper
from kedge.errors import ConfigError, KedgeError
from kedge.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from kedge.edge.config import EdgeConfig
    from kedge.edge.kubelet.events import Recorder
    from kedge.edge.kubelet.serving.face import KubeletServer
    from kedge.hub.client import HubClient
    from kedge.runtime import Runtime
    from kedge.store import Store

POLICY = (
    {
        "groups": ["system:authenticated"],
        "urls": ["/api*", "/openapi*", "/openid*", "/.well-known/*", "/version*"],
    },
    operator.POLICY,
)
"""What everybody may read who is known, and all for the node's operator; the rest is decided by the
RBAC objects of the view."""
LIMITS = {
    "head_bytes": 32 * 1024,
    "all_bodies_bytes": 8 * 1024 * 1024,
    "connections": 512,
    "requests": 128,
    "watches": 512,
    "queue": 1,
}
RETRY_SECONDS, RETRY_AT_MOST_SECONDS = 1.0, 30.0
"""Between tries to listen: the first ceiling and the last, with jitter."""
MIN_RETRY_SECONDS = 1.0
NOT_LISTENING, LISTENING = "MetaServerNotListening", "MetaServerListening"
"""Reasons of Events about the Node."""
BASE_SHIFT = 20
BASE_STEP = 1 << 40

_log = logging.getLogger(__name__)


class MetaServer:
    """The node's API server.

    Args:
        config: the settings.
        store: the node's replica.

    Raises:
        ConfigError: its keys or documents cannot be used.
    """

    def __init__(self, config: EdgeConfig, store: Store) -> None:
        self._config = config
        self._store = store
        self._host, _, port = config.metaserver_listen.rpartition(":")
        self.port = int(port)
        self.problem = "not started"
        pod_address = config.metaserver_pod_address
        own = [one for one in (self._host.strip("[]"), pod_address) if one]
        self._identity = identity.load(
            config.data_dir / "pki",
            config.node_name,
            config.cluster_domain,
            own,
            operator.GROUP,
        )
        self.objects = NodeObjects(store, self._identity.authority)
        self.tokens = TokenKeeper(store, self._identity.token_key, self._identity.issuer)
        self._address = pod_address
        self._added = False
        self._record = config.data_dir / "metaserver" / address.RECORD
        self._server: _core.ApiServer | None = None

    @property
    def endpoint(self) -> tuple[str, int] | None:
        """Where pods reach it, if anywhere."""
        return (self._address, self.port) if self._address else None

    def summary(self) -> dict[str, Any]:
        """What ``status.json`` says of it."""
        endpoint = _joined(*self.endpoint) if self.endpoint else ""
        listen = self._config.metaserver_listen
        return {"listen": listen, "pods": endpoint, "problem": self.problem}

    async def run(
        self,
        runtime: Runtime,
        link: HubClient | None,
        kubelet: KubeletServer,
        recorder: Recorder,
    ) -> None:
        """Listens until cancelled.

        Args:
            runtime: the process's runtime.
            link: where what is not of this node's view is asked.
            kubelet: what is asked for logs, exec and the like.
            recorder: for Events about this.
        """
        backoff = Backoff(RETRY_SECONDS, RETRY_AT_MOST_SECONDS)
        said = ""
        try:
            while not self._start(runtime, link, kubelet):
                if said != self.problem:
                    said = self.problem
                    recorder.node(NOT_LISTENING, f"pods cannot ask this node: {said}", warning=True)
                await asyncio.sleep(MIN_RETRY_SECONDS + backoff.next_seconds())
            if said:
                recorder.node(LISTENING, f"listens on {self._config.metaserver_listen}")
            await self.tokens.run()
        finally:
            self.close()

    def close(self) -> None:
        """Stops listening, and takes back the address if it was given here."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._added:
            self._added = False
            try:
                address.give_back(self._record)
            except OSError as error:
                _log.warning("the MetaServer's address stays: %s", error)

    def _start(self, runtime: Runtime, link: HubClient | None, kubelet: KubeletServer) -> bool:
        try:
            if self._address:
                self._added = address.take(self._address, self._record)
            handle = None if link is None else link.handle
            config = json.dumps(self._settings())
            store = self._store.handle
            self._server = _core.ApiServer(runtime, store, config, handle, kubelet.handle)
            self._write_kubeconfig()
        except (KedgeError, OSError) as error:
            if self.problem != str(error):
                self.problem = str(error)
                _log.warning("the MetaServer does not listen: %s", error)
            return False
        self.problem = ""
        _log.info("the MetaServer listens", extra={"address": self._config.metaserver_listen})
        return True

    def _write_kubeconfig(self) -> None:
        path = self._record.with_name(operator.FILE)
        node = self._config.node_name
        try:
            operator.write(path, operator.kubeconfig(self._identity, node, self._host, self.port))
        except OSError as error:
            _log.warning("%s cannot be written: %s", path, error)

    def _settings(self) -> dict[str, Any]:
        directory = self._config.data_dir / "metaserver"
        own = self._identity
        return {
            "listen": self._config.metaserver_listen,
            "also_listen": [_joined(*self.endpoint)] if self.endpoint else [],
            "certificate": own.serving.certificate,
            "key": own.serving.key,
            "client_ca": own.authority,
            "service_account_keys": [own.token_public_key],
            "issuer": own.issuer,
            "resources": _resources(directory / "resources.json"),
            "policy": POLICY,
            "rbac": True,
            "limits": LIMITS,
            "replica": {
                "base": versions_base(
                    directory / "versions.json", self._store.store_id, time.time()
                ),
                "kinds": VIEW,
                "documents": str(directory),
            },
        }


def _resources(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def versions_base(path: Path, store: int, now: float) -> int:
    """What the resource versions of a store begin at: above those of any earlier store of this node.

    Args:
        path: where it is kept.
        store: the store's id.
        now: seconds since 1970.
    """
    earlier = 0
    try:
        known = json.loads(path.read_bytes())
        if known["store"] == store:
            return int(known["base"])
        earlier = int(known["base"])
    except (OSError, ValueError, KeyError, TypeError):
        _log.debug("resource versions begin anew")
    base = max(int(now) << BASE_SHIFT, earlier + BASE_STEP)
    write_whole(path, json.dumps({"store": store, "base": base}))
    return base


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
