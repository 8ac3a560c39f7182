# SPDX-License-Identifier: Apache-2.0
"""Settings of a node's agent; ``kedge join`` writes the first ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kedge.edge.metaserver.address import family_of

if TYPE_CHECKING:
    from kedge.edge.kubelet.pressure.thresholds import Threshold


EVICTION_HARD = {
    "memory.available": "100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
    "pid.available": "5%",
}

MARKER = "reset.json"
"""In the node's directory while ``kedge reset`` is under way: no agent may start."""


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """What ``python -m kedge.edge`` can be told.

    Attributes:
        node_name: this node's name, as in its certificate; the host's name if not given.
        cloud: the hub, as HOST:PORT; without one the node works from its store alone.
        data_dir: where everything durable is kept: the store, pki, node.seal, pods.
        local_volumes_dir: where volumes of the StorageClass local-path keep their data, on the disk that they
            are to fill; local-volumes below dataDir if not given.
        runtime_endpoint: the socket of the container runtime (CRI v1).
        logs_dir: where container logs are written, as crictl and log shippers expect them.
        resolv_conf: the node's resolver, given to pods.
        cluster_dns: resolvers of pods with dnsPolicy ClusterFirst; none gives them the node's.
        cluster_domain: the domain of the cluster's Services.
        cgroup_driver: cgroupfs or systemd; asked from the runtime if not given.
        network: bridge gives pods a network of kedge's own where the runtime has none; none leaves that to others.
        pod_cidr: the networks of that bridge, at most one of IPv4 and one of IPv6; they need not differ between nodes.
        network_interface: what the bridge is called on the node.
        cni_conf_dir: where the network is written; asked from the runtime if not given.
        seccomp_dir: where the seccomp profiles are that pods name (localhostProfile); dataDir/seccomp if not given.
        seccomp_default: whether a container that names no seccomp profile gets the runtime's default one.
        allowed_unsafe_sysctls: kernel settings that pods may have beside the safe ones: names, or beginnings with * at the end.
        metaserver: whether pods (and programs of this machine that have a token) get the Kubernetes API
            from this node.
        metaserver_listen: where this machine's own programs reach it, as ADDRESS:PORT.
        metaserver_pod_address: where pods reach it, at the same port: an address that the agent gives the
            machine (on lo) while it runs; the default is the one that KubeEdge uses. None: pods do not.
        node_labels: labels that the node registers with.
        node_taints: taints that the node first registers with, as KEY=VALUE:EFFECT.
        max_pods: how many pods the scheduler may put here.
        registry_credentials: a file of credentials for registries, in the form of docker's
            config.json; tried after a pod's imagePullSecrets. Read again for each pull.
        serialize_image_pulls: whether images are pulled one after another.
        max_parallel_image_pulls: images pulled at a time otherwise; more share a slow line.
        sandbox_parallelism: sandboxes made at a time; 0 chooses by the machine's cores.
        container_log_max_size: a container's log file is rotated when it is larger, as in 10Mi.
        container_log_max_files: how many log files a container may have, the current one included;
            all of them together are what a container's log can take of the disk.
        cgroup_root: the cgroup that kubepods is in; the top one if not given.
        pod_pids_limit: the most processes and threads of one pod; less than 1 sets no limit.
        system_reserved: what the operating system keeps, such as cpu: 100m, memory: 200Mi,
            ephemeral-storage or pid; pods are offered the rest.
        kube_reserved: the same for the agent and the container runtime.
        eviction_hard: pods are ended at once when less than this is left, as a quantity or in percent;
            replaces the defaults altogether.
        eviction_soft: the same after a grace period.
        eviction_soft_grace_seconds: how long a threshold of evictionSoft must be met.
        eviction_max_pod_grace_seconds: a pod's grace between TERM and KILL at a soft threshold.
        eviction_minimum_reclaim: how much more than the threshold is freed, by signal.
        eviction_transition_seconds: how long a pressure condition outlives its cause, so as not to flap.
        image_gc_high_threshold_percent: unused images go when their disk is so full.
        image_gc_low_threshold_percent: down to which they go.
        image_minimum_gc_age_seconds: an image pulled since then stays.
        image_maximum_gc_age_seconds: an image that nobody used for so long goes; 0 for never.
        max_dead_containers: of the whole node that are kept for their logs; less than 0 for no limit.
        max_dead_containers_per_container: of one container, beside the newest.
        minimum_dead_container_age_seconds: one that ended since then stays.
        shutdown_grace_period_seconds: how long a shutdown of the machine waits for pods to end, by a
            lock of systemd-logind; 0 takes none. SIGPWR ends pods all the same, then in 30 s.
        shutdown_grace_period_critical_pods_seconds: the part of it that is kept for critical pods.
        plugins: whether CSI drivers and device plugins may come, and monitoring agents ask for pods' devices.
        kubelet_dir: where they come: device-plugins, plugins_registry, plugins and pod-resources are below
            it; dataDir if not given; /var/lib/kubelet for plugins that know no other place.
        store_durable: whether a commit waits for the disk.
        static_pod_path: a directory with a manifest per static pod, which runs without any cloud; looked
            at every 2 s. None by default: whoever may write there decides what this node runs.
        log_level: DEBUG, INFO, WARNING or ERROR.
    """

    node_name: str = ""
    cloud: str = ""
    data_dir: Path = Path("kedge-data/edge")
    local_volumes_dir: str = ""
    runtime_endpoint: str = "unix:///run/containerd/containerd.sock"
    logs_dir: Path = Path("/var/log/pods")
    resolv_conf: Path = Path("/etc/resolv.conf")
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    cgroup_driver: str = ""
    network: str = ""
    pod_cidr: tuple[str, ...] = ("10.85.0.0/16",)
    network_interface: str = "kedge0"
    cni_conf_dir: str = ""
    seccomp_dir: str = ""
    seccomp_default: bool = False
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    metaserver: bool = True
    metaserver_listen: str = "127.0.0.1:10550"
    metaserver_pod_address: str = "169.254.30.10"
    node_labels: dict[str, str] = field(default_factory=dict)
    node_taints: tuple[str, ...] = ()
    max_pods: int = 110
    registry_credentials: str = ""
    serialize_image_pulls: bool = False
    max_parallel_image_pulls: int = 3
    sandbox_parallelism: int = 0
    container_log_max_size: str = "10Mi"
    container_log_max_files: int = 5
    cgroup_root: str = ""
    pod_pids_limit: int = -1
    system_reserved: dict[str, str] = field(default_factory=dict)
    kube_reserved: dict[str, str] = field(default_factory=dict)
    eviction_hard: dict[str, str] = field(default_factory=lambda: dict(EVICTION_HARD))
    eviction_soft: dict[str, str] = field(default_factory=dict)
    eviction_soft_grace_seconds: dict[str, int] = field(default_factory=dict)
    eviction_max_pod_grace_seconds: int = 0
    eviction_minimum_reclaim: dict[str, str] = field(default_factory=dict)
    eviction_transition_seconds: int = 300
    image_gc_high_threshold_percent: int = 85
    image_gc_low_threshold_percent: int = 80
    image_minimum_gc_age_seconds: int = 120
    image_maximum_gc_age_seconds: int = 0
    max_dead_containers: int = -1
    max_dead_containers_per_container: int = 1
    minimum_dead_container_age_seconds: int = 0
    shutdown_grace_period_seconds: int = 0
    shutdown_grace_period_critical_pods_seconds: int = 0
    plugins: bool = True
    kubelet_dir: str = ""
    store_durable: bool = True
    static_pod_path: str = ""
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        """Checks what a type alone cannot.

        Raises:
            ValueError: a value does not fit.
        """
        if self.cgroup_driver not in ("", "cgroupfs", "systemd"):
            raise ValueError(
                f"cgroupDriver: got: {self.cgroup_driver!r}, wanted: cgroupfs or systemd"
            )
        for taint in self.node_taints:
            parse_taint(taint)
        host, _, port = self.metaserver_listen.rpartition(":")
        if not is_address(host.strip("[]")) or not (port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(
                f"metaserverListen: got: {self.metaserver_listen!r}, wanted: ADDRESS:PORT"
            )
        if self.metaserver_pod_address and not is_address(self.metaserver_pod_address):
            raise ValueError(
                f"metaserverPodAddress: got: {self.metaserver_pod_address!r}, wanted: an IP address"
            )
        self._check_paths()
        check_log_limits(self.container_log_max_size, self.container_log_max_files)
        if self.network:
            self._check_network()
        if self.allowed_unsafe_sysctls:
            # Few nodes allow any, and the agent's settings were checked before it began.
            from kedge.edge.kubelet.container import sysctls  # noqa: PLC0415

            for pattern in self.allowed_unsafe_sysctls:
                sysctls.check_pattern(pattern)
        if not 0 < self.max_parallel_image_pulls <= 100:
            got = self.max_parallel_image_pulls
            raise ValueError(f"maxParallelImagePulls: got: {got}, wanted: 1 to 100")
        if not 0 < self.max_pods <= 1000:
            raise ValueError(f"maxPods: got: {self.max_pods}, wanted: 1 to 1000")
        self._check_resources()

    def _check_paths(self) -> None:
        for name, path in (
            ("kubeletDir", self.kubelet_dir),
            ("localVolumesDir", self.local_volumes_dir),
            ("staticPodPath", self.static_pod_path),
        ):
            if path and not path.startswith("/"):
                raise ValueError(f"{name}: got: {path!r}, wanted: an absolute path")

    def _check_resources(self) -> None:
        from kedge.edge.kubelet.node import reservations  # noqa: PLC0415 - they import this module's users

        self.eviction_thresholds()
        reservations.check("systemReserved", self.system_reserved)
        reservations.check("kubeReserved", self.kube_reserved)
        low, high = self.image_gc_low_threshold_percent, self.image_gc_high_threshold_percent
        if not 0 <= low < high <= 100:
            raise ValueError(
                f"imageGcLowThresholdPercent: got: {low} and {high} for imageGcHighThresholdPercent, "
                "wanted: 0 to 100, the low one below the high one"
            )
        critical = self.shutdown_grace_period_critical_pods_seconds
        if not 0 <= critical <= self.shutdown_grace_period_seconds:
            raise ValueError(
                f"shutdownGracePeriodCriticalPodsSeconds: got: {critical}, wanted: 0 to "
                f"shutdownGracePeriodSeconds, which is {self.shutdown_grace_period_seconds}"
            )
        if self.max_dead_containers_per_container < 0:
            got = self.max_dead_containers_per_container
            raise ValueError(f"maxDeadContainersPerContainer: got: {got}, wanted: 0 or more")

    def eviction_thresholds(self) -> tuple[Threshold, ...]:
        """The settings of eviction, read.

        Raises:
            ValueError: one cannot be.
        """
        from kedge.edge.kubelet.pressure import thresholds  # noqa: PLC0415 - as above

        return thresholds.thresholds(
            self.eviction_hard,
            self.eviction_soft,
            self.eviction_soft_grace_seconds,
            self.eviction_minimum_reclaim,
        )

    def _check_network(self) -> None:
        # Loaded only by nodes that have a network of their own.
        from kedge.edge.network import conflist  # noqa: PLC0415

        if self.network != "bridge":
            raise ValueError(f"network: got: {self.network!r}, wanted: bridge, or none")
        if not self.pod_cidr:
            raise ValueError("podCidr: got: nothing, wanted: a network such as 10.85.0.0/16")
        conflist.check_cidrs(self.pod_cidr)
        name = self.network_interface
        if not 0 < len(name) < 16 or "/" in name or not name.isprintable() or " " in name:
            raise ValueError(f"networkInterface: got: {name!r}, wanted: 1 to 15 characters")


def check_log_limits(size: str, files: int) -> None:
    """Checks what a container's log may take.

    Raises:
        ValueError: it is too little to work with, or not a quantity.
    """
    from kedge.edge.kubelet.resources.resources import whole  # noqa: PLC0415 - kubelet modules read settings too

    wanted = "a quantity of at least 16Ki, as in 10Mi"
    try:
        is_enough = whole(size) >= 16 << 10
    except ValueError:
        is_enough = False
    if not is_enough:
        raise ValueError(f"containerLogMaxSize: got: {size!r}, wanted: {wanted}")
    if not 2 <= files <= 1000:
        raise ValueError(f"containerLogMaxFiles: got: {files}, wanted: 2 to 1000")


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        family_of(text)
    except ValueError:
        return False
    return True


def parse_taint(text: str) -> dict[str, str]:
    """A taint written as KEY=VALUE:EFFECT or KEY:EFFECT.

    Raises:
        ValueError: it is not written like that.
    """
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    if not key or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise ValueError(
            f"nodeTaints: got: {text!r}, wanted: KEY=VALUE:NoSchedule, or another effect"
        )
    return {"key": key, "effect": effect} | ({"value": value} if value else {})
