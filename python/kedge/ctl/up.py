# SPDX-License-Identifier: Apache-2.0
"""``kedge up``: checks what would go wrong later, then becomes the supervisor.

The checks are for people: a port that is in use, a directory that cannot be written, no root or no
container runtime for the local node. Each is one line with the cause and one with the fix.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NoReturn

from kedge.api import names as api_names
from kedge.cloud import names
from kedge.ctl.failure import Failure
from kedge.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """What ``kedge up`` was asked for; the flags of the command."""

    directory: Path
    api_port: int
    hub_port: int
    node_name: str
    node_domain: str
    runtime_endpoint: str
    edge: bool


def run(options: Options) -> NoReturn:
    """Checks, and becomes the supervisor.

    Raises:
        Failure: something is in the way.
    """
    directory = prepare_directory(options.directory)
    name = node_name(options.node_name)
    if options.node_domain and (complaint := api_names.subdomain(options.node_domain)):
        what = f"node domain: got: {options.node_domain!r:.80}: {complaint}"
        raise Failure("NameInvalid", what, "give one such as --node-domain nodes.example.com")
    check_port(options.api_port, "127.0.0.1", "--api-port")
    check_port(options.hub_port, "0.0.0.0", "--hub-port")  # noqa: S104 - as the hub will
    if options.edge:
        check_node(options.runtime_endpoint, os.geteuid())
    passed = asdict(options) | {"directory": str(directory), "node_name": name}
    arguments = [sys.executable, "-m", "kedge.ctl.supervisor", json.dumps(passed)]
    sys.stdout.flush()
    os.execv(sys.executable, arguments)  # noqa: S606 - ourselves, without a shell


def prepare_directory(directory: Path) -> Path:
    """Makes the directory and tries to write there; its absolute path.

    Raises:
        Failure: it cannot be made or written.
    """
    directory = directory.absolute()
    probe = directory / ".probe"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        reason = {errno.EROFS: "ReadOnly", errno.ENOSPC: "DiskFull"}.get(
            error.errno or 0, "NoAccess"
        )
        what = f"{directory}: cannot be written: {error.strerror}"
        raise Failure(
            reason, what, "choose another --dir, or make room and rights there"
        ) from error
    return directory


def node_name(wanted: str) -> str:
    """The name of the local node: as asked for, or the host's.

    Raises:
        Failure: Kubernetes would not accept it.
    """
    name = wanted or socket.gethostname().lower()
    try:
        return names.check_name(name)
    except Invalid as error:
        raise Failure("NameInvalid", str(error), "give another one with --node-name") from error


def check_port(port: int, address: str, flag: str) -> None:
    """Refuses a port that cannot be listened on.

    Raises:
        Failure: it is in use or not allowed.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError as error:
            what = f"port {port}: only root may listen on it"
            raise Failure("PortForbidden", what, f"choose one above 1023 with {flag}") from error
        except OSError as error:
            what = f"port {port}: something else listens on it"
            hint = f"stop that (ss -ltnp sport = :{port} shows it), or choose another {flag}"
            raise Failure("PortInUse", what, hint) from error


def check_node(endpoint: str, user: int) -> None:
    """Refuses a machine that cannot be a node.

    Raises:
        Failure: not root, or no container runtime answers.
    """
    if user != 0:
        what = "the local node needs root: it mounts volumes and talks to the container runtime"
        raise Failure("NotRoot", what, "run it as root, or without a node: --no-edge")
    check_runtime(endpoint)


def check_runtime(endpoint: str) -> None:
    """Refuses an endpoint where no container runtime listens.

    Raises:
        Failure: it is no unix socket, is absent, or nothing listens.
    """
    scheme, _, path = endpoint.partition("://")
    if scheme != "unix" or not path.startswith("/"):
        what = f"runtime endpoint: wanted unix:///path, got: {endpoint}"
        raise Failure(
            "EndpointInvalid", what, "--runtime-endpoint unix:///run/containerd/containerd.sock"
        )
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(path)
        except OSError as error:
            what = f"no container runtime at {path}: {error.strerror or error}"
            hint = (
                "install and start one (apt-get install containerd), give its --runtime-endpoint, "
                "or go without a node: --no-edge"
            )
            raise Failure("NoRuntime", what, hint) from error
