# SPDX-License-Identifier: Apache-2.0
"""One probe attempt: exec, HTTP, HTTPS, TCP or gRPC, bounded in time and in what is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.errors import KedgeError

if TYPE_CHECKING:
    from kedge.edge.kubelet.health.probes import Target

MAX_OUTPUT_CHARACTERS = 1024


async def check(
    probe: dict[str, Any], container: dict[str, Any], target: Target, timeout_seconds: float
) -> tuple[bool, str]:
    """Whether one attempt succeeded, and what to show if not."""
    try:
        if "exec" in probe:
            code, output = await target.execute(probe["exec"].get("command") or [], timeout_seconds)
            return code == 0, output[:MAX_OUTPUT_CHARACTERS]
        return await target.ask(request(probe, container, target.address()), timeout_seconds)
    except (OSError, ValueError, KedgeError) as error:
        return False, str(error)[:MAX_OUTPUT_CHARACTERS]


def request(probe: dict[str, Any], container: dict[str, Any], address: str) -> dict[str, Any]:
    """What a network probe asks, for ``NetworkProber``.

    Raises:
        ValueError: it asks nothing, or a port that is not there.
    """
    for kind in ("httpGet", "tcpSocket", "grpc"):
        if kind not in probe:
            continue
        how = probe[kind]
        found = {
            "kind": {"tcpSocket": "tcp"}.get(kind, kind),
            "host": how.get("host") or address,
            "port": port_number(container, how["port"]),
        }
        if kind == "httpGet":
            found["kind"] = (how.get("scheme") or "HTTP").lower()
            found["path"] = how.get("path") or "/"
            found["headers"] = [
                (one["name"], one.get("value", "")) for one in how.get("httpHeaders") or []
            ]
        if kind == "grpc":
            found["path"] = how.get("service") or ""
        return found
    raise ValueError("the probe has no exec, httpGet, tcpSocket or grpc")


def port_number(container: dict[str, Any], port: int | str) -> int:
    """A port given by number or by the name of one of the container's ports.

    Raises:
        ValueError: no such port.
    """
    if isinstance(port, int):
        return port
    for one in container.get("ports") or []:
        if one.get("name") == port:
            return int(one["containerPort"])
    if port.isdecimal():
        return int(port)
    raise ValueError(f"container {container['name']} has no port named: {port}")
