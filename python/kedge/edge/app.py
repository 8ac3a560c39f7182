# SPDX-License-Identifier: Apache-2.0
"""Puts a node's agent together and runs it: store, link, container runtime, kubelet.

The store is opened first and everything works from it; the link is one more component, and a node
without one goes on. A store that is damaged is set aside and refilled, and until it is known to be
complete nothing that runs is taken for an orphan.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge.edge import link, memory, plugging
from kedge.edge.config import MARKER, EdgeConfig, parse_taint
from kedge.edge.kubelet.container.logs import Limits, Rotator
from kedge.edge.kubelet.container.security import Settings
from kedge.edge.kubelet.events import Recorder
from kedge.edge.kubelet.images.images import Images
from kedge.edge.kubelet.node.node import NodeReporter, Registration
from kedge.edge.kubelet.node.summary import Summary, pod_summary
from kedge.edge.kubelet.objects import StoreObjects
from kedge.edge.kubelet.pods import Pods
from kedge.edge.kubelet.reports import Reporter, write_last
from kedge.edge.kubelet.resources.resources import whole
from kedge.edge.kubelet.serving.face import KubeletServer
from kedge.edge.kubelet.serving.routes import Routes
from kedge.edge.kubelet.tools import Facts, Paths, Tools
from kedge.edge.kubelet.volumes import Source, VolumeError, Volumes
from kedge.edge.kubelet.volumes.local_path import LocalPath, follow_node
from kedge.edge.metaserver import open_metaserver
from kedge.edge.replica import Replica
from kedge.edge.runtime import Abilities
from kedge.edge.runtime.cri import CriRuntime
from kedge.edge.runtime.prober import NetworkProber
from kedge.edge.upkeep import Upkeep
from kedge.errors import ConfigError, KedgeError
from kedge.runtime import VERSION, Runtime

if TYPE_CHECKING:
    from kedge.edge.kubelet.static_pods.static import StaticPods
    from kedge.edge.network.bridge import Bridge

SOCKET = "agent.sock"
"""In the node's directory: ``/healthz``, ``/metrics`` and all else of the kubelet server, for root."""

_log = logging.getLogger(__name__)


async def serve(config: EdgeConfig, runtime: Runtime) -> None:
    """Runs the agent until cancelled; containers go on without it.

    Args:
        config: the settings.
        runtime: the process's tokio runtime.

    Raises:
        ConfigError: the directory, the seal or the certificates cannot be used.
    """
    replica = Replica.open(config.data_dir, durable=config.store_durable)
    try:
        await Agent(config, runtime, replica).run()
    finally:
        replica.store.close()


class Agent:
    """One node's components.

    Args:
        config: the settings.
        runtime: the process's tokio runtime.
        replica: the node's store.
    """

    def __init__(self, config: EdgeConfig, runtime: Runtime, replica: Replica) -> None:
        self._config = config
        self._replica = replica
        store, node = replica.store, config.node_name
        self.cri = CriRuntime(runtime, config.runtime_endpoint)
        self.prober = NetworkProber(runtime)
        self.server = server = KubeletServer(runtime)
        self.metaserver = open_metaserver(config, store)
        self.facts = Facts(
            node,
            resolv_conf=config.resolv_conf,
            cluster_dns=config.cluster_dns,
            cluster_domain=config.cluster_domain,
            security=Settings(
                str(config.seccomp_dir or config.data_dir / "seccomp"),
                config.seccomp_default,
                config.allowed_unsafe_sysctls,
            ),
            dead_kept=config.max_dead_containers_per_container,
            dead_age_seconds=config.minimum_dead_container_age_seconds,
            api_endpoint=None if self.metaserver is None else self.metaserver.endpoint,
        )
        self.reporter = Reporter(store, node)
        self.recorder = Recorder(store, node)
        pods = config.data_dir / "pods"
        data = config.data_dir.absolute()
        self.local_path = LocalPath(Path(config.local_volumes_dir or data / "local-volumes"))
        self.volumes = Volumes(
            pods,
            config.data_dir / "memory",
            lambda: self.facts.place(()),
            node=node,
            local_path=self.local_path,
        )
        self.upkeep = Upkeep(config, self.recorder)
        self.plugins = plugging.plugins(config, runtime, self.cri, self.recorder)
        parallel = config.sandbox_parallelism or default_parallelism()
        tools = Tools(
            runtime=self.cri,
            objects=StoreObjects(store) if self.metaserver is None else self.metaserver.objects,
            volumes=self.volumes,
            images=Images(
                self.cri,
                1 if config.serialize_image_pulls else config.max_parallel_image_pulls,
                config.registry_credentials,
            ),
            prober=self.prober,
            recorder=self.recorder,
            reporter=self.reporter,
            facts=self.facts,
            paths=Paths(pods, config.logs_dir),
            sandbox_limit=asyncio.Semaphore(parallel),
            start_limit=asyncio.Semaphore(parallel),
            log_ended=server.log_ended,
            cgroups=self.upkeep.cgroups,
            devices=self.plugins,
            others=lambda uid: self.pods.others(uid),  # noqa: PLW0108 - no pods yet
            room=lambda: self.pods.room(),  # noqa: PLW0108 - as above
            refusal=lambda pod: self.upkeep.pressure.refusal(pod),  # noqa: PLW0108 - as above
        )
        self.volumes.plug("image", "kubernetes.io~image", lambda: _image_volumes(tools))
        self.pods = Pods(store, tools)
        self.static = self._static_pods()
        registration = Registration(
            node,
            config.node_labels,
            [parse_taint(one) for one in config.node_taints],
            config.max_pods,
            VERSION,
            self.upkeep.reservations,
        )
        self.bridge = _bridge(config, self.cri, self.recorder)
        self.node = NodeReporter(
            registration,
            self.cri,
            self.reporter,
            self.facts,
            config.data_dir,
            storage=self.local_path,
            bridge=self.bridge,
        )
        self.upkeep.attach(tools, self.pods, self.node)
        if self.plugins is not None:
            plugging.connect(self, self.plugins, config)
        self.routes = Routes(server, self.pods, tools, lambda: self.node.problem, config)
        self.link = link.open_link(config, runtime, store, server)
        self._runtime = runtime
        limits = Limits(whole(config.container_log_max_size), config.container_log_max_files)
        self.rotator = Rotator(self.pods.logs, self.cri, limits)
        self.summary = Summary(config.data_dir / "status.json", self.gather, VERSION)

    def _static_pods(self) -> StaticPods | None:
        if not self._config.static_pod_path:
            return None
        # Only a node that has such a directory loads what follows it.
        from kedge.edge.kubelet.static_pods.static import StaticPods  # noqa: PLC0415

        self.pods.await_static()
        path, node = self._config.static_pod_path, self._config.node_name
        return StaticPods(path, node, self.recorder, self.pods.set_static)

    async def run(self) -> None:
        """Runs every component until one fails or all are cancelled."""
        if self._replica.is_complete():
            self.pods.store_is_complete()
        if self._replica.set_aside is not None:
            text = f"the node's store was damaged and is set aside: {self._replica.set_aside.name}"
            self.recorder.node("StoreSetAside", text, warning=True)
        try:
            await self._run()
        finally:
            (self._config.data_dir / SOCKET).unlink(missing_ok=True)
            self._leave_no_memory()
            await write_last(self._replica.store, self.reporter, self.recorder)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._replica.store.run())
            group.create_task(self.cri.run())
            group.create_task(self.prober.run())
            group.create_task(self.reporter.run())
            group.create_task(self.recorder.run())
            await self.upkeep.begin(self.cri)
            self.facts.abilities = await self._ask_abilities()
            if self.bridge is not None:
                await self.bridge.ensure()
            self.upkeep.run(group)
            if self.plugins is not None:
                group.create_task(self.plugins.run())
            group.create_task(self.pods.run())
            if self.static is not None:
                group.create_task(self.static.run())
            group.create_task(self.node.run())
            group.create_task(self._follow_node())
            self._listen()
            group.create_task(self.routes.run())
            group.create_task(self.summary.run())
            group.create_task(self.rotator.run())
            group.create_task(memory.keep_small(self._replica.store))
            if self.metaserver is not None:
                client = link.handle_of(self.link)
                served = self.metaserver.run(self._runtime, client, self.server, self.recorder)
                group.create_task(served)
            if self.link is not None:
                group.create_task(self.link.run())
                group.create_task(self._follow_link(self.link))
            gc.collect()
            gc.freeze()
            _log.info("the agent runs node=%s version=%s", self._config.node_name, VERSION)

    async def _follow_node(self) -> None:
        """Removes local volumes when the Node asks for it."""

        def in_use() -> set[str]:
            workers = self.pods.workers()
            return {one.path for worker in workers for one in (worker.volumes or {}).values()}

        store, name = self._replica.store, self._config.node_name
        await follow_node(self.local_path, store, name, in_use, self.node.report_now)

    def _listen(self) -> None:
        """Opens the node's own socket; an agent that cannot have it runs without."""
        try:
            self.server.listen(self._config.data_dir / SOCKET)
        except (KedgeError, OSError) as error:
            _log.warning("%s cannot be made, nobody can ask this agent here: %s", SOCKET, error)

    def _leave_no_memory(self) -> None:
        """Containers go on using their volumes; without any, no mount outlives the agent."""
        try:
            self.volumes.close()
        except VolumeError as error:
            _log.warning("the memory of volumes stays mounted: %s", error)

    async def _ask_abilities(self) -> Abilities:
        """What the runtime can do; a runtime that is away is asked again when it is back."""
        try:
            async with asyncio.timeout(5):
                return await self.cri.abilities()
        except (OSError, TimeoutError, link.KedgeError):
            return Abilities()

    async def _follow_link(self, connected: link.Link) -> None:
        """A link that comes up wants a fresh status; one that has synced makes the store complete."""
        await connected.follow(up=self.node.report_now, synced=self._synced)

    def _synced(self) -> None:
        self._replica.mark_complete()
        self.pods.store_is_complete()

    def gather(self) -> dict[str, Any]:
        """What ``status.json`` says."""
        store = self._replica.store
        stats = store.stats()
        aside = self._replica.set_aside
        name, _, version = self.node.runtime_version.partition("://")
        return {
            "node": self._config.node_name,
            "link": link.summary(self.link, self._config.cloud),
            "metaserver": {} if self.metaserver is None else self.metaserver.summary(),
            "store": {
                "path": str(self._replica.path),
                "bytes": stats.get("file_bytes", 0),
                "objects": stats.get("objects", 0),
                "setAside": str(aside) if aside else None,
            },
            "runtime": {
                "name": name,
                "version": version,
                "ready": not self.node.problem,
                "message": self.node.problem,
            },
            "pods": [pod_summary(one) for one in self.pods.workers()],
            "waiting": {"reports": link.waiting(self.link, store)},
        }


def _bridge(config: EdgeConfig, cri: CriRuntime, recorder: Recorder) -> Bridge | None:
    """The node's own pod network, if it is to have one."""
    if config.network != "bridge":
        return None
    # Loaded only by nodes that have a network of their own.
    from kedge.edge.network.bridge import Bridge  # noqa: PLC0415

    return Bridge(
        cri,
        recorder,
        node=config.node_name,
        cidrs=config.pod_cidr,
        interface=config.network_interface,
        state=config.data_dir / "network",
        conf_dir=config.cni_conf_dir,
    )


def _image_volumes(tools: Tools) -> Source:
    from kedge.edge.kubelet.volumes import image_volumes  # noqa: PLC0415 - few pods have one

    return image_volumes.ImageVolumes(tools.runtime, tools.images)


def default_parallelism() -> int:
    """How many sandboxes to make at a time: enough to keep the cores busy while others wait."""
    return max(4, 4 * len(os.sched_getaffinity(0)))


def prepare(config: EdgeConfig) -> None:
    """Makes the agent's directories, closed to others but for what containers mount.

    Raises:
        ConfigError: the node is being removed.
    """
    if (config.data_dir / MARKER).exists():
        text = (
            f"a reset of this node was begun: kedge reset --dir {config.data_dir} goes on with it"
        )
        raise ConfigError(text)
    for path, mode in (
        (config.data_dir, 0o700),
        (config.data_dir / "pods", 0o700),
        (config.logs_dir, 0o755),
    ):
        Path(path).mkdir(mode=mode, parents=True, exist_ok=True)
    config.data_dir.chmod(0o700)
