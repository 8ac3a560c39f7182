# SPDX-License-Identifier: Apache-2.0
"""``kedge join``: from a token to a node's certificate and configuration on disk.

First the hub's authority is fetched without trusting anybody and compared with the hash in the
token; from then on only that authority counts. The hub is verified by its fixed name, whatever
address was dialled. A key that is there already is used again, so joining twice is joining once.
Every failure says what was wrong and what to do.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

from kedge.cloud import names
from kedge.cloud.authority import SERVER_NAME
from kedge.config import read_yaml
from kedge.ctl.failure import Failure
from kedge.ctl.up import node_name as checked_name
from kedge.errors import CertificateError, ConfigError
from kedge.files import write_whole
from kedge.hub import certificates, tokens

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_SECONDS = 15.0
MAX_ANSWER_BYTES = 256 * 1024
CA_PATH = "/v1/ca"
JOIN_PATH = "/v1/join"
NEW_TOKEN = "make a new one where the cluster runs: kedge token create"  # noqa: S105 - a hint
CLOCK = "set this machine's clock right (timedatectl set-ntp true), then try again"


def run(
    *,
    cloud: str,
    token: str,
    node_name: str,
    directory: Path,
    runtime_endpoint: str,
    network: str = "",
    now: float | None = None,
) -> Path:
    """Joins; the path of the configuration that was written.

    Args:
        cloud: where the hub is, ``HOST:PORT``.
        token: a join token.
        node_name: the name wanted.
        directory: where to write.
        runtime_endpoint: goes into the configuration.
        network: the same; ``bridge``, or none.
        now: what the clock says; the system's if left out.

    Raises:
        Failure: whatever stands in the way.
    """
    name = checked_name(node_name)
    if network not in ("", "bridge"):
        what = f"--network: wanted bridge, or none, got: {network}"
        raise Failure("NetworkInvalid", what, "leave it out where another CNI network is installed")
    host, port = parse_address(cloud)
    try:
        parsed = tokens.parse(token)
    except CertificateError as error:
        raise Failure(
            "TokenInvalid", str(error), f"copy the whole token, or {NEW_TOKEN}"
        ) from error
    request = _request(directory, name)
    ca = trusted_authority(host, port, parsed.ca_hash, time.time() if now is None else now)
    certificate = _ask(
        host, port, ca, {"token": token.strip(), "csr": request.certificate, "node": name}
    )
    _check_granted(certificate, ca, request.key, name, now)
    settings = {
        "nodeName": name,
        "cloud": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "dataDir": str(directory.absolute()),
        "runtimeEndpoint": runtime_endpoint,
    } | ({"network": network} if network else {})
    return write(directory, ca, certificates.Pair(certificate, request.key), settings)


def parse_address(text: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        Failure: it does not look like ``HOST:PORT``.
    """
    host, colon, port = text.strip().removeprefix("https://").rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        what = f"--cloud: wanted HOST:PORT, got: {text}"
        raise Failure(
            "AddressInvalid", what, "the port is the one of kedge up --hub-port, as in :10000"
        )
    return host, int(port)


def trusted_authority(host: str, port: int, wanted_hash: str, now: float) -> str:
    """The hub's authority (PEM), if it is the one that the token names and all holds now.

    Raises:
        Failure: no hub there, another authority, or a clock that cannot be right.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the hash in the token decides, below
    connection = _Connection(host, port, context)
    status, body = _exchange(connection, "GET", CA_PATH, None)
    server = ssl.DER_cert_to_PEM_cert(connection.peer)
    text = body.decode(errors="replace")
    if status != 200 or "BEGIN CERTIFICATE" not in text:
        what = f"{host}:{port} is not a kedge hub: it answered {status} to {CA_PATH}"
        raise Failure("NotHub", what, "use the hub's port (kedge up --hub-port), not the API's")
    try:
        found = certificates.ca_hash(text)
        if found != wanted_hash:
            what = f"the hub at {host}:{port} has another authority ({found}) than the token ({wanted_hash})"
            raise Failure("WrongAuthority", what, f"check --cloud; if it is right, {NEW_TOKEN}")
        certificates.check(server, text, now=now)
    except CertificateError as error:
        raise _unfit(f"{host}:{port}", error) from error
    return text


def write(directory: Path, ca: str, node: certificates.Pair, settings: dict[str, Any]) -> Path:
    """Writes what a node needs to start; each file whole or not at all, the configuration last.

    Raises:
        Failure: the directory cannot be written.
    """
    path = directory / "edge.yaml"
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in settings.items()]
    try:
        (directory / "pki").mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(directory / "pki" / "ca.crt", ca.encode())
        write_whole(directory / "pki" / "node.key", node.key.encode())
        write_whole(directory / "pki" / "node.crt", node.certificate.encode())
        seal = directory / "node.seal"
        if not seal.exists():
            write_whole(seal, os.urandom(32))
        write_whole(path, "".join(["# Written by kedge join.\n", *lines]).encode())
    except OSError as error:
        what = f"{error.filename or directory}: cannot be written: {error.strerror}"
        raise Failure("NoAccess", what, "choose another --dir, or run it as root") from error
    return path


class _Connection(http.client.HTTPSConnection):
    """A TLS connection that verifies the hub by its fixed name, and keeps what it showed."""

    peer: bytes = b""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=TIMEOUT_SECONDS, context=context)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        secured = self._tls.wrap_socket(plain, server_hostname=SERVER_NAME)
        self.peer = secured.getpeercert(binary_form=True) or b""
        self.sock = secured


def _exchange(
    connection: _Connection, method: str, path: str, body: bytes | None
) -> tuple[int, bytes]:
    where = f"{connection.host}:{connection.port}"
    try:
        connection.request(method, path, body, {"content-type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read(MAX_ANSWER_BYTES)
    except socket.gaierror as error:
        what = f"the name of {where} cannot be resolved: {error.strerror}"
        raise Failure("NameUnknown", what, "check the host in --cloud, and DNS") from error
    except ConnectionRefusedError as error:
        what = f"nothing listens at {where}"
        hint = "check the host and port in --cloud (kedge up --hub-port), and that kedge runs there"
        raise Failure("Refused", what, hint) from error
    except TimeoutError as error:
        what = f"{where} does not answer within {TIMEOUT_SECONDS:g} s"
        raise Failure("Timeout", what, "check the address, and firewalls in between") from error
    except ssl.SSLCertVerificationError as error:
        raise _unfit(where, CertificateError(error.verify_message)) from error
    except (ssl.SSLError, http.client.HTTPException, ConnectionError) as error:
        what = f"{where} does not speak as a kedge hub does: {error}"
        raise Failure("NotHub", what, "use the hub's port: kedge up --hub-port") from error
    except OSError as error:
        what = f"{where} cannot be reached: {error.strerror or error}"
        raise Failure("Unreachable", what, "check the address and the network") from error
    finally:
        connection.close()


def _ask(host: str, port: int, ca: str, body: dict[str, str]) -> str:
    """The certificate for a request."""
    context = ssl.create_default_context(cadata=ca)
    connection = _Connection(host, port, context)
    status, answer = _exchange(connection, "POST", JOIN_PATH, json.dumps(body).encode())
    try:
        decoded = json.loads(answer)
        if status == 200:
            return str(decoded["certificate"])
        raise Failure(str(decoded["reason"]), str(decoded["message"]), str(decoded.get("hint", "")))
    except (ValueError, KeyError, TypeError) as error:
        what = f"the hub at {host}:{port} answered {status} and nothing that can be read"
        raise Failure("NotHub", what, "use a kedge of the same version on both sides") from error


def _request(directory: Path, name: str) -> certificates.Pair:
    """A certificate request, with the key of an earlier join of the same node if there was one."""
    config, key = directory / "edge.yaml", directory / "pki" / "node.key"
    try:
        if config.exists():
            other = read_yaml(config).get("nodeName", name)
            if other != name:
                what = f"{directory} is the directory of node {other}"
                raise Failure("OtherNode", what, "choose another --dir")
        text = key.read_text(encoding="ascii") if key.exists() else ""
        return certificates.make_csr(names.user_of(name), key=text)
    except (OSError, UnicodeDecodeError, ConfigError, CertificateError) as error:
        what = f"what an earlier join left in {directory} cannot be used: {error}"
        raise Failure("Leftover", what, "remove it, or choose another --dir") from error


def _check_granted(certificate: str, ca: str, key: str, name: str, now: float | None) -> None:
    try:
        certificates.check(certificate, ca, now=now)
        details = certificates.inspect(certificate)
        if details.common_name != names.user_of(name) or not certificates.same_key(
            certificate, key
        ):
            what = f"the hub gave a certificate for {details.common_name}, wanted {names.user_of(name)}"
            raise Failure("NotHub", what, "use a kedge of the same version on both sides")
    except CertificateError as error:
        raise _unfit("the hub", error) from error


def _unfit(where: str, error: CertificateError) -> Failure:
    text = str(error)
    if "expired" in text or "not yet valid" in text:
        return Failure("ClockWrong", f"{where}: {text}", CLOCK)
    return Failure(
        "WrongAuthority", f"{where}: {text}", f"check --cloud; if it is right, {NEW_TOKEN}"
    )
