# SPDX-License-Identifier: Apache-2.0
"""Rules of containers: names, images, ports, variables, mounts, resources, probes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kedge.api import names, quantities
from kedge.api.extended import is_extended
from kedge.api.validation import volumes

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

PORT_RULE = "must be between 1 and 65535, inclusive"
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
PROTOCOLS = ("SCTP", "TCP", "UDP")
HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_PROBE_COUNTS = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)
_NOT_NEGATIVE = "must be greater than or equal to 0"


def validate_all(spec: Object, path: str, volume_names: set[str], problems: Problems) -> None:
    """All containers of a pod; names are unique over init and ordinary ones."""
    if not spec.get("containers"):
        problems.required(f"{path}.containers")
    seen: set[str] = set()
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field, ())):
            where = f"{path}.{field}[{index}]"
            name = container.get("name", "")
            if not name:
                problems.required(f"{where}.name")
            elif name in seen:
                problems.duplicate(f"{where}.name", name)
            else:
                problems.text(f"{where}.name", name, names.label(name))
            seen.add(name)
            _container(container, where, volume_names, problems)
    for index, container in enumerate(spec.get("initContainers", ())):
        if container.get("restartPolicy") != "Always":
            _plain_init(container, f"{path}.initContainers[{index}]", problems)


def validate_ephemeral(spec: Object, path: str, volume_names: set[str], problems: Problems) -> None:
    """Ephemeral containers have names of their own among all of the pod's."""
    seen = {
        one.get("name", "")
        for field in ("initContainers", "containers")
        for one in spec.get(field, ())
    }
    for index, container in enumerate(spec.get("ephemeralContainers", ())):
        where, name = f"{path}[{index}]", container.get("name", "")
        if not name:
            problems.required(f"{where}.name")
        elif name in seen:
            problems.duplicate(f"{where}.name", name)
        else:
            problems.text(f"{where}.name", name, names.label(name))
        seen.add(name)
        _container(container, where, volume_names, problems)


def _plain_init(container: Object, path: str, problems: Problems) -> None:
    for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
        if field in container:
            problems.forbidden(
                f"{path}.{field}", "may not be set for init containers without restartPolicy=Always"
            )


def _container(container: Object, path: str, volume_names: set[str], problems: Problems) -> None:
    image = container.get("image", "")
    if not image:
        problems.required(f"{path}.image")
    elif image != image.strip():
        problems.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    problems.choice(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), PULL_POLICIES)
    problems.choice(
        f"{path}.terminationMessagePolicy",
        container.get("terminationMessagePolicy"),
        ("FallbackToLogsOnError", "File"),
    )
    if "ports" in container:
        _ports(container["ports"], f"{path}.ports", problems)
    if "env" in container:
        _env(container["env"], f"{path}.env", problems)
    if "envFrom" in container:
        _env_from(container["envFrom"], f"{path}.envFrom", problems)
    if "volumeMounts" in container:
        _mounts(container["volumeMounts"], f"{path}.volumeMounts", volume_names, problems)
    if container.get("resources"):
        _resources(container["resources"], f"{path}.resources", problems)
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        if field in container:
            _probe(container[field], f"{path}.{field}", field, problems)
    for name, hook in container.get("lifecycle", {}).items():
        if type(hook) is dict:
            _handler(hook, f"{path}.lifecycle.{name}", problems)


def _ports(ports: list[Object], path: str, problems: Problems) -> None:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        where = f"{path}[{index}]"
        if not 1 <= port.get("containerPort", 0) <= 65535:
            problems.invalid(f"{where}.containerPort", port.get("containerPort", 0), PORT_RULE)
        if port.get("hostPort", 0) and not 1 <= port["hostPort"] <= 65535:
            problems.invalid(f"{where}.hostPort", port["hostPort"], PORT_RULE)
        problems.choice(f"{where}.protocol", port.get("protocol"), PROTOCOLS)
        name = port.get("name", "")
        if name and (not _PORT_NAME.fullmatch(name) or "--" in name):
            problems.invalid(
                f"{where}.name",
                name,
                "must be no more than 15 characters of [a-z0-9-] with at least one letter",
            )
        if name and name in seen:
            problems.duplicate(f"{where}.name", name)
        seen.add(name)


def _env(variables: list[Object], path: str, problems: Problems) -> None:
    for index, variable in enumerate(variables):
        where = f"{path}[{index}]"
        name = variable.get("name", "")
        if not name:
            problems.required(f"{where}.name")
        elif "=" in name or not name.isprintable():
            problems.invalid(
                f"{where}.name",
                name,
                "a valid environment variable name must consist only of printable ASCII characters other than '='",
            )
        source = variable.get("valueFrom")
        if source is None:
            continue
        if variable.get("value"):
            problems.invalid(
                f"{where}.valueFrom", "", "may not be specified when `value` is not empty"
            )
        if len(source) != 1:
            detail = (
                "may not have more than one field specified at a time"
                if source
                else "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            )
            problems.invalid(f"{where}.valueFrom", "", detail)
        for field in ("configMapKeyRef", "secretKeyRef"):
            if field in source:
                for part in ("name", "key"):
                    if not source[field].get(part):
                        problems.required(f"{where}.valueFrom.{field}.{part}")
        if "fieldRef" in source and not source["fieldRef"].get("fieldPath"):
            problems.required(f"{where}.valueFrom.fieldRef.fieldPath")


def _env_from(sources: list[Object], path: str, problems: Problems) -> None:
    for index, source in enumerate(sources):
        where = f"{path}[{index}]"
        kinds = [field for field in ("configMapRef", "secretRef") if field in source]
        if len(kinds) != 1:
            detail = (
                "may not have more than one field specified at a time"
                if kinds
                else "must specify one of: `configMapRef` or `secretRef`"
            )
            problems.invalid(where, "", detail)
        for kind in kinds:
            if not source[kind].get("name"):
                problems.required(f"{where}.{kind}.name")


def _mounts(mounts: list[Object], path: str, volume_names: set[str], problems: Problems) -> None:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        where = f"{path}[{index}]"
        name, target = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            problems.required(f"{where}.name")
        elif name not in volume_names:
            problems.not_found(f"{where}.name", name)
        if not target:
            problems.required(f"{where}.mountPath")
        elif target in seen:
            problems.invalid(f"{where}.mountPath", target, "must be unique")
        seen.add(target)
        if mount.get("subPath"):
            volumes.local_path(mount["subPath"], f"{where}.subPath", problems)


def _resources(resources: Object, path: str, problems: Problems) -> None:
    limits = resources.get("limits", {})
    for field in ("limits", "requests"):
        for name, amount in resources.get(field, {}).items():
            problems.text(f"{path}.{field}[{name}]", name, names.qualified(name))
            if quantities.parse(amount) < 0:
                problems.invalid(f"{path}.{field}[{name}]", amount, _NOT_NEGATIVE)
    for name, amount in resources.get("requests", {}).items():
        if name in limits and quantities.parse(amount) > quantities.parse(limits[name]):
            problems.invalid(
                f"{path}.requests",
                amount,
                f"must be less than or equal to {name} limit of {limits[name]}",
            )

    _extended(resources, path, problems)


def _extended(resources: Object, path: str, problems: Problems) -> None:
    """Extended resources are given whole and are not overcommitted."""
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for field in ("limits", "requests"):
        for name, amount in resources.get(field, {}).items():
            if is_extended(name) and quantities.parse(amount) % 1 != 0:
                problems.invalid(f"{path}.{field}[{name}]", amount, "must be an integer")
    for name, amount in requests.items():
        if not is_extended(name):
            continue
        if name not in limits:
            problems.required(f"{path}.limits[{name}]")
        elif quantities.parse(amount) != quantities.parse(limits[name]):
            detail = f"must be equal to {name} limit of {limits[name]}"
            problems.invalid(f"{path}.requests", amount, detail)


def _probe(probe: Object, path: str, kind: str, problems: Problems) -> None:
    for field in _PROBE_COUNTS:
        if probe.get(field, 0) < 0:
            problems.invalid(f"{path}.{field}", probe[field], _NOT_NEGATIVE)
    if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        problems.invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")
    _handler(probe, path, problems)


def _handler(handler: Object, path: str, problems: Problems) -> None:
    kinds = [field for field in HANDLERS if field in handler]
    if not kinds:
        problems.required(path, "must specify a handler type")
    for extra in kinds[1:]:
        problems.forbidden(f"{path}.{extra}", "may not specify more than 1 handler type")
    if "exec" in handler and not handler["exec"].get("command"):
        problems.required(f"{path}.exec.command")
    for kind in ("httpGet", "tcpSocket", "grpc"):
        if kind in handler:
            _port_of(handler[kind].get("port"), f"{path}.{kind}.port", problems)
    if "httpGet" in handler:
        problems.choice(
            f"{path}.httpGet.scheme", handler["httpGet"].get("scheme"), ("HTTP", "HTTPS")
        )


def _port_of(port: Any, path: str, problems: Problems) -> None:
    if type(port) is int and not 1 <= port <= 65535:
        problems.invalid(path, port, PORT_RULE)
    if type(port) is str and not _PORT_NAME.fullmatch(port):
        problems.invalid(path, port, "must be a port number or a port's name")
    if port is None:
        problems.required(path)
