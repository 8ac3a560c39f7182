# SPDX-License-Identifier: Apache-2.0
"""``kedge status``: how a node is, from what its agent wrote last; works without the cloud.

The agent writes ``DIR/status.json`` whole on each change. Whether the agent is alive is checked here
against the process table. When it is stopped, what it last wrote is shown as such.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

from kedge.ctl.failure import Failure

MAX_STATUS_BYTES = 16 << 20


def run(directory: Path, *, as_json: bool) -> None:
    """Prints the status of the node in ``directory``.

    Raises:
        Failure: there is no node in it.
    """
    status = read(directory)
    status["agent"] = {**status.get("agent", {}), "running": is_running(status)}
    if as_json:
        print(json.dumps(status))
    else:
        print("\n".join(lines(status, dt.datetime.now(dt.UTC))))


def read(directory: Path) -> dict[str, Any]:
    """What the agent wrote last.

    Raises:
        Failure: nothing was written, or it cannot be read.
    """
    path = directory / "status.json"
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_STATUS_BYTES))
    except FileNotFoundError as error:
        if (directory / "edge.yaml").exists():
            what = f"the node in {directory} has joined, but its agent never ran"
            hint = f"start it: python -m kedge.edge --config {directory / 'edge.yaml'}"
            raise Failure("NeverRan", what, hint) from error
        what = f"no node in {directory}"
        raise Failure(
            "NoNode", what, "give the --dir of kedge join (kedge up: DIR/edge)"
        ) from error
    except (OSError, ValueError) as error:
        what = f"{path}: cannot be read: {error}"
        raise Failure("Unreadable", what, "run it as root; the agent writes it anew") from error
    if not isinstance(found, dict):
        raise Failure("Unreadable", f"{path}: wanted an object", "the agent writes it anew")
    return found


def is_running(status: dict[str, Any]) -> bool:
    """Whether the process that wrote the status is still there, and still an agent."""
    try:
        pid = int(status.get("agent", {}).get("pid", 0))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, TypeError):
        return False
    return any(word.startswith(b"kedge.edge") or b"kedge/edge" in word for word in words)


def lines(status: dict[str, Any], now: dt.datetime) -> list[str]:
    """The status for people."""
    agent, link = status.get("agent", {}), status.get("link", {})
    store, runtime = status.get("store", {}), status.get("runtime", {})
    age = f"as of {_ago(status.get('time'), now)} ago"
    alive = f"running, pid {agent.get('pid')}" if agent.get("running") else f"stopped; {age}"
    since = _ago(link.get("since"), now)
    problem = f"; last error: {link['lastError']}" if link.get("lastError") else ""
    ready = "ready" if runtime.get("ready") else f"not ready: {runtime.get('message', '')}"
    pods = status.get("pods") or []
    text = [
        f"node      {status.get('node', '?')}",
        f"agent     {alive}, version {agent.get('version', '?')}, {_size(agent.get('rssBytes'))}",
        f"link      {link.get('state', '?')} for {since}, {link.get('cloud', '?')}{problem}",
        f"store     {_size(store.get('bytes'))}, {store.get('objects', '?')} objects",
        f"runtime   {runtime.get('name', '?')} {runtime.get('version', '')} {ready}".rstrip(),
        f"waiting   {status.get('waiting', {}).get('reports', 0)} reports for the cloud",
        f"pods      {len(pods)}",
    ]
    if status.get("metaserver"):
        text.append(f"api       {_metaserver(status['metaserver'])}")
    if store.get("setAside"):
        text.append(f"damaged   a store was set aside: {store['setAside']}")
    return text + [_pod_line(pod) for pod in pods]


def _metaserver(served: dict[str, Any]) -> str:
    """The node's own API server in one line."""
    places = [str(served.get("listen", "?"))]
    if served.get("pods"):
        places.append(f"{served['pods']} for pods")
    if served.get("problem"):
        return f"not listening on {', '.join(places)}: {served['problem']}"
    return f"listening on {', '.join(places)}"


def _pod_line(pod: dict[str, Any]) -> str:
    name = f"{pod.get('namespace')}/{pod.get('name')}"
    reason = f" {pod['reason']}" if pod.get("reason") else ""
    restarts = pod.get("restarts", 0)
    return (
        f"  {name:<40} {pod.get('ready', '?'):<6} {pod.get('phase')}{reason}, {restarts} restarts"
    )


def _size(value: Any) -> str:
    return f"{value / 1e6:.1f} MB" if isinstance(value, int | float) else "? MB"


def _ago(moment: Any, now: dt.datetime) -> str:
    """How long ago a moment was: RFC 3339 or seconds since 1970."""
    try:
        if isinstance(moment, int | float):
            then = dt.datetime.fromtimestamp(moment, dt.UTC)
        else:
            then = dt.datetime.fromisoformat(str(moment))
        seconds = (now - then).total_seconds()
    except (ValueError, TypeError):
        return "?"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
