# SPDX-License-Identifier: Apache-2.0
"""Everything that can be wrong at a join gives one line with the cause and one with the fix."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from kedge.config import read_yaml
from kedge.ctl import join, token_commands
from kedge.ctl.failure import Failure
from kedge.hub import certificates, tokens
from tests.integration.cloud.conftest import ENDPOINT


def attempt(hub, tmp_path, **changes):
    """Joins with something wrong; the failure."""
    wanted = {
        "cloud": f"127.0.0.1:{hub.port}",
        "token": "",
        "node_name": "fault",
        "directory": tmp_path / "node",
        "runtime_endpoint": ENDPOINT,
    } | changes
    wanted["token"] = wanted["token"] or hub.control.token()
    began = time.monotonic()
    with pytest.raises(Failure) as caught:
        join.run(**wanted)
    failure = caught.value
    assert time.monotonic() - began < join.TIMEOUT_SECONDS
    assert "\n" not in str(failure)
    assert failure.hint
    assert "\n" not in failure.hint
    assert not (tmp_path / "node" / "edge.yaml").exists()
    return failure


def test_nothing_wrong_is_a_node(cloud, tmp_path):
    path = cloud.join(tmp_path / "n", "fine")
    settings = read_yaml(path)
    assert settings["nodeName"] == "fine"
    assert settings["cloud"] == f"127.0.0.1:{cloud.port}"
    assert settings["dataDir"] == str(tmp_path / "n")
    assert settings["runtimeEndpoint"] == ENDPOINT
    pki = tmp_path / "n" / "pki"
    certificates.check((pki / "node.crt").read_text(), (pki / "ca.crt").read_text())
    assert (pki / "node.key").stat().st_mode & 0o777 == 0o600
    assert len((tmp_path / "n" / "node.seal").read_bytes()) == 32


def test_joining_twice_is_joining_once(cloud, tmp_path):
    cloud.join(tmp_path / "n", "twice")
    key = (tmp_path / "n" / "pki" / "node.key").read_text()
    cloud.join(tmp_path / "n", "twice")
    assert (tmp_path / "n" / "pki" / "node.key").read_text() == key


def test_a_token_that_is_not_one(cloud, tmp_path):
    failure = attempt(cloud, tmp_path, token="abc")
    assert failure.reason == "TokenInvalid"


def test_an_expired_token(cloud, tmp_path):
    token = cloud.control.token(ttl="1s")
    time.sleep(1.5)
    failure = attempt(cloud, tmp_path, token=token)
    assert failure.reason == "TokenExpired"
    assert "expired" in str(failure)
    assert "kedge token create" in failure.hint


def test_a_revoked_token(cloud, tmp_path):
    token = cloud.control.token()
    grant = tokens.verify(
        tokens.parse(token).jwt,
        _public_key(cloud),
        time.time(),
    )
    token_commands.revoke(cloud.control.kubeconfig, grant.id)
    failure = attempt(cloud, tmp_path, token=token)
    assert failure.reason == "TokenRevoked"
    with pytest.raises(Failure, match="no join token has the id"):
        token_commands.revoke(cloud.control.kubeconfig, grant.id)


def _public_key(cloud):
    import base64

    secret = cloud.control.api.get("/api/v1/namespaces/kedge-system/secrets/kedge-token-key")
    return certificates.public_key(base64.b64decode(secret["data"]["token.key"]).decode())


def test_a_token_of_another_cloud(cloud, tmp_path):
    other = certificates.create_ca("kedge-ca", days=1)
    grant = tokens.new_grant(time.time(), 60)
    token = tokens.encode(grant, other.certificate, certificates.new_key(), time.time())
    failure = attempt(cloud, tmp_path, token=token)
    assert failure.reason == "WrongAuthority"
    assert certificates.ca_hash(other.certificate) in str(failure)


def test_a_forged_token_for_the_right_authority(cloud, tmp_path):
    real = tokens.parse(cloud.control.token())
    forged = certificates.jwt_sign(
        certificates.new_key(),
        {"iss": "kedge", "aud": "kedge-join", "jti": "x", "exp": time.time() + 60},
    )
    token = f"{real.ca_hash.removeprefix('sha256:')}.{forged}"
    failure = attempt(cloud, tmp_path, token=token)
    assert failure.reason == "TokenForeign"


@pytest.mark.parametrize("name", ["Edge_1", "-a", "a" * 254])
def test_a_name_that_kubernetes_refuses(cloud, tmp_path, name):
    assert attempt(cloud, tmp_path, node_name=name).reason == "NameInvalid"


def test_a_name_that_another_node_has(cloud, tmp_path):
    cloud.join(tmp_path / "first", "taken")
    failure = attempt(cloud, tmp_path, node_name="taken")
    assert failure.reason == "NameRefused"
    assert "the name belongs to a node with another key" in str(failure)
    cloud.join(tmp_path / "second", "taken", cloud.control.token(rejoin=True))


def test_a_name_that_the_token_is_not_for(cloud, tmp_path):
    failure = attempt(cloud, tmp_path, token=cloud.control.token(node="other"))
    assert failure.reason == "NameRefused"
    assert "for node other alone" in str(failure)


def test_a_port_where_nothing_listens(cloud, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        failure = attempt(cloud, tmp_path, cloud=f"127.0.0.1:{port}")
    assert failure.reason == "Refused"
    assert f"nothing listens at 127.0.0.1:{port}" in str(failure)


def test_the_port_of_the_api_server(cloud, tmp_path):
    failure = attempt(cloud, tmp_path, cloud=f"127.0.0.1:{cloud.control.api_port}")
    assert failure.reason == "NotHub"
    assert "not the API's" in failure.hint


def test_a_port_that_does_not_speak_tls(cloud, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        failure = attempt(cloud, tmp_path, cloud=f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert failure.reason == "NotHub"


def test_a_host_that_does_not_exist(cloud, tmp_path):
    assert attempt(cloud, tmp_path, cloud="no-such-host.invalid:1").reason == "NameUnknown"


def test_an_address_without_a_port(cloud, tmp_path):
    assert attempt(cloud, tmp_path, cloud="127.0.0.1").reason == "AddressInvalid"


@pytest.mark.parametrize(
    ("offset", "says"), [(-3600, "not yet valid"), (200 * 86400, "expired at")]
)
def test_a_wrong_clock(cloud, tmp_path, offset, says):
    failure = attempt(cloud, tmp_path, now=time.time() + offset)
    assert failure.reason == "ClockWrong"
    assert says in str(failure)
    assert "clock" in failure.hint


def test_a_directory_of_another_node(cloud, tmp_path):
    cloud.join(tmp_path / "n", "mine")
    with pytest.raises(Failure, match="is the directory of node mine"):
        cloud.join(tmp_path / "n", "yours")


def test_a_directory_that_cannot_be_written(cloud, tmp_path):
    (tmp_path / "file").write_text("")
    failure = attempt(cloud, tmp_path, directory=tmp_path / "file" / "n", node_name="nowhere")
    assert failure.reason in ("NoAccess", "Leftover")
