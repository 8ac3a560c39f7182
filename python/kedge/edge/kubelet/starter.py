# SPDX-License-Identifier: Apache-2.0
"""Starting one container: its image, its environment and mounts, create, start, status.

Until the runtime is asked to create, a start can be abandoned without a trace; after that it is
carried to its end, so that nothing is left half made that the worker does not know of.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kedge import faults, metrics
from kedge.edge.kubelet.container import containers, dns, mounts, sandboxing, security
from kedge.edge.kubelet.container.environment import ContainerConfigError, environment
from kedge.edge.kubelet.container.security import CreateContainerError
from kedge.edge.kubelet.pod import lifecycle, observe
from kedge.edge.kubelet.pod.state import Container, ContainerState, Pod, Sandbox
from kedge.errors import KedgeError, RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kedge.edge.kubelet.tools import Tools
    from kedge.edge.kubelet.volumes import Prepared
    from kedge.edge.runtime import Image

_KINDS = {
    "containers": "container",
    "initContainers": "init_container",
    "ephemeralContainers": "ephemeral_container",
}
"""The kubelet's words for them in its figures."""


class RunContainerError(RuntimeFailure):
    """The runtime did not start the container."""

    reason: ClassVar[str] = "RunContainerError"


class PostStartHookError(RuntimeFailure):
    """The container's start hook failed."""

    reason: ClassVar[str] = "PostStartHookError"


class Starter:
    """Starts the containers of one pod.

    Args:
        tools: the kubelet's shared parts.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def layout(self, pod: Pod) -> containers.Layout:
        """What of the node goes into this pod's configurations."""
        facts, cgroups = self._tools.facts, self._tools.cgroups
        is_host = bool(pod["spec"].get("hostNetwork"))
        return containers.Layout(
            node=facts.node,
            log_directory=str(self._tools.paths.log_directory(pod)),
            hostname="" if is_host else dns.hostname(pod, facts.cluster_domain),
            dns=self.dns(pod)[0],
            cgroup_parent=cgroups.names.pod(pod) if cgroups is not None else "",
            node_memory=facts.memory_bytes,
            security=facts.security,
            users=self._users(pod),
            huge_page_sizes=cgroups.huge_page_sizes if cgroups is not None else (),
        )

    def dns(self, pod: Pod) -> tuple[dict[str, Any], list[str]]:
        """The pod's resolver, and what had to be left out of it."""
        facts = self._tools.facts
        path = facts.resolv_conf
        node = facts.resolver if path is None else dns.read_resolver(path)
        return dns.dns_config(pod, node, facts.cluster_dns, facts.cluster_domain)

    def _users(self, pod: Pod) -> dict[str, Any] | None:
        """The users that the pod has for itself, if it asked for that."""
        if pod["spec"].get("hostUsers") is not False:
            return None
        # Few pods have users of their own: how ids are given out is loaded for the first.
        from kedge.edge.kubelet.container import user_namespaces  # noqa: PLC0415

        return user_namespaces.options(self._tools.paths.pods, pod["metadata"]["uid"])

    async def image(self, pod: Pod, container: dict[str, Any]) -> Image:
        """The container's image, pulled if it must be.

        Raises:
            ImagePullError: it cannot be pulled.
            ImageNeverPullError: it may not be pulled.
        """
        recorder, name, reference = (
            self._tools.recorder,
            container["name"],
            container.get("image", ""),
        )
        found = await self._tools.images.present(container)
        if found is not None:
            recorder.pod(
                pod,
                "Pulled",
                f'Container image "{reference}" already present on machine',
                container=name,
            )
            return found
        recorder.pod(pod, "Pulling", f'Pulling image "{reference}"', container=name)

        def say(text: str) -> None:
            recorder.pod(pod, "Pulling", f'Pulling image "{reference}": {text}', container=name)

        began = time.monotonic()
        if __debug__:
            faults.point("image.pull.asked")
        auths = self._tools.images.auths(pod, self._tools.objects, reference)
        pulled = await self._tools.images.pull(container, auths, say)
        if __debug__:
            faults.point("image.pulled")
        whole = time.monotonic() - began
        text = (
            f'Successfully pulled image "{reference}" in {pulled.seconds:.3f}s '
            f"({whole:.3f}s including waiting). Image size: {pulled.image.size_bytes} bytes."
        )
        recorder.pod(pod, "Pulled", text, container=name)
        return pulled.image

    async def create_and_start(
        self,
        pod: Pod,
        container: dict[str, Any],
        sandbox: Sandbox,
        image: Image,
        attempt: int,
        *,
        volumes: Mapping[str, Prepared],
        created: Callable[[Container], None],
        target: str = "",
    ) -> Container:
        """Creates and starts the container; as it is right after that.

        Args:
            pod: its object.
            container: its spec.
            sandbox: where.
            image: what it runs.
            attempt: which start this is.
            volumes: the pod's, by name.
            created: told of the container as soon as it exists.
            target: the id of the container whose processes it shares, for an ephemeral one.

        Raises:
            ContainerConfigError: something that it needs is missing or wrong.
            CreateContainerError: the runtime refused to create it.
            RunContainerError: the runtime refused to start it.
        """
        runtime, recorder, name = self._tools.runtime, self._tools.recorder, container["name"]
        metrics.count(
            "kubelet_started_containers_total", container_type=_KINDS[lifecycle.field(pod, name)]
        )
        security.check(pod, container, image, self._tools.facts.security)
        wanted = container.get("targetContainerName")
        if wanted and not target:
            raise ContainerConfigError(f"unable to find target container {wanted}")
        layout = self.layout(pod)
        config = self._config(pod, container, sandbox, image, attempt, layout, volumes)
        containers.share_processes(config, target)
        if __debug__:
            faults.point("container.files.made")
        try:
            config = await self._with_devices(pod, container, config)
            container_id = await runtime.create_container(
                sandbox.id, config, containers.sandbox_config(pod, layout, sandbox.attempt)
            )
        except RuntimeFailure as error:
            raise CreateContainerError(str(error)) from error
        if __debug__:
            faults.point("container.created")
        found = Container(
            id=container_id,
            name=name,
            attempt=attempt,
            state=ContainerState.CREATED,
            sandbox_id=sandbox.id,
            definition=lifecycle.definition(container),
            image=container.get("image", ""),
            image_id=image.id,
            created_at=self._tools.clock(),
        )
        self._tools.images.use(image.id)
        created(found)
        recorder.pod(pod, "Created", f"Created container: {name}", container=name)
        try:
            if __debug__:
                faults.point("container.start.asked")
            await runtime.start_container(container_id)
            if __debug__:
                faults.point("container.started")
            status = await runtime.container_status(container_id)
        except RuntimeFailure as error:
            raise RunContainerError(str(error)) from error
        if status is None:
            raise RunContainerError(f"the container is gone again: {container_id}")
        recorder.pod(pod, "Started", f"Started container {name}", container=name)
        return observe.with_status(found, status)

    def _is_recursive(self, pod: Pod, container: dict[str, Any]) -> bool:
        """Whether the pod's handler makes mounts read-only all through; asked only if one is to be."""
        handlers = self._tools.facts.abilities.handlers
        wanted = any(one.get("recursiveReadOnly") for one in container.get("volumeMounts") or ())
        if not wanted or not handlers:
            return False
        name = sandboxing.handler(pod, self._tools.objects, self._tools.facts.abilities)
        found = handlers.get(name)
        return found is not None and found.recursive_read_only

    async def _with_devices(
        self, pod: Pod, container: dict[str, Any], config: dict[str, Any]
    ) -> dict[str, Any]:
        """The same with what the container's devices need.

        Raises:
            ContainerConfigError: a plugin or a CDI file does not let it start.
        """
        devices = self._tools.devices
        if devices is None:
            return config
        try:
            edits = await devices.edits(pod, container)
        except KedgeError as error:
            raise ContainerConfigError(str(error)) from error
        if edits is None:
            return config
        from kedge.edge.kubelet.devices.edits import apply  # noqa: PLC0415 - few containers have any

        return apply(config, edits)

    def _config(  # noqa: PLR0917 - all of it goes in
        self,
        pod: Pod,
        container: dict[str, Any],
        sandbox: Sandbox,
        image: Image,
        attempt: int,
        layout: containers.Layout,
        volumes: Mapping[str, Prepared],
    ) -> dict[str, Any]:
        facts, paths = self._tools.facts, self._tools.paths
        variables = environment(pod, container, self._tools.objects, facts.place(sandbox.ips))
        directory = paths.pod(pod["metadata"]["uid"])
        node_hosts = dns.read_hosts(facts.hosts) if pod["spec"].get("hostNetwork") else ""
        hosts = dns.hosts_file(pod, sandbox.ips, facts.cluster_domain, node_hosts)
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            found = mounts.build(
                container,
                volumes=volumes,
                variables=variables,
                directory=directory,
                hosts=hosts,
                attempt=attempt,
                recursive=self._is_recursive(pod, container),
            )
            log_directory = Path(layout.log_directory) / container["name"]
            log_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise ContainerConfigError(f"cannot make the container's files: {error}") from error
        config = containers.container_config(
            pod,
            container,
            layout,
            attempt=attempt,
            image=image,
            variables=variables,
            mounts=found,
        )
        if container.get("volumeDevices"):
            config["devices"] = mounts.devices(container, volumes)
        return config
