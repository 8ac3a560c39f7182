# SPDX-License-Identifier: Apache-2.0
"""The MetaServer's parts: its keys, its address, its versions, its documents, what pods are given."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
from pathlib import Path

import pytest

from kedge.api.kinds import find
from kedge.edge.config import EdgeConfig
from kedge.edge.kubelet.objects import config_map
from kedge.edge.metaserver import address, documents, identity, operator
from kedge.edge.metaserver.kinds import VIEW, WAITING
from kedge.edge.metaserver.objects import NodeObjects
from kedge.edge.metaserver.server import versions_base
from kedge.errors import ConfigError
from kedge.hub import certificates
from kedge.store import Store, put


def test_the_node_keeps_its_authority_and_names_what_pods_ask_for(tmp_path: Path) -> None:
    first = identity.load(tmp_path, "n1", "cluster.local", ["169.254.1.2"], "operators")
    again = identity.load(tmp_path, "n1", "cluster.local", ["169.254.1.2"], "operators")
    assert again.authority == first.authority
    assert again.token_key == first.token_key
    assert first.issuer == "kedge-node:n1"
    certificates.check(first.serving.certificate, first.authority)
    certificates.check(first.operator.certificate, first.authority)
    names = certificates.inspect(first.serving.certificate).sans
    assert {
        "DNS:kubernetes",
        "DNS:kubernetes.default",
        "DNS:kubernetes.default.svc",
        "DNS:kubernetes.default.svc.cluster.local",
        "IP:127.0.0.1",
        "IP:169.254.1.2",
    } <= set(names)
    for file in tmp_path.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


def test_the_kubeconfig_of_the_node_is_for_root_and_reaches_the_server(tmp_path: Path) -> None:
    own = identity.load(tmp_path / "pki", "n1", "cluster.local", [], "operators")
    content = operator.kubeconfig(own, "n1", "0.0.0.0", 10550)
    path = tmp_path / operator.FILE
    path.write_text("what was there before")
    path.chmod(0o644)
    operator.write(path, content)
    assert path.stat().st_mode & 0o777 == 0o600
    read = json.loads(path.read_text())
    assert read["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:10550"
    user = read["users"][0]["user"]
    certificate = base64.b64decode(user["client-certificate-data"]).decode()
    assert certificate == own.operator.certificate
    assert certificates.inspect(certificate).common_name == "kedge:node-operator:n1"


def test_a_key_that_was_scribbled_on_is_named(tmp_path: Path) -> None:
    identity.load(tmp_path, "n1", "cluster.local", [], "operators")
    (tmp_path / "metaserver-ca.key").write_text("nonsense")
    with pytest.raises(ConfigError, match="MetaServer's keys cannot be used"):
        identity.load(tmp_path, "n1", "cluster.local", [], "operators")


def test_an_address_is_asked_of_the_kernel_whole() -> None:
    message = address.message(20, 0x605, "169.254.1.2", 1)
    length, kind, flags, _, _ = struct.unpack_from("=IHHII", message)
    assert (length, kind, flags) == (len(message), 20, 0x605)
    family, prefix, _, scope, index = struct.unpack_from("=BBBBI", message, 16)
    assert (family, prefix, scope, index) == (socket.AF_INET, 32, 254, 1)
    assert message.count(socket.inet_aton("169.254.1.2")) == 2
    assert address.message(20, 0, "fd00::1", 1)[16:18] == bytes([socket.AF_INET6, 128])


def test_an_address_that_a_crash_left_is_still_this_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine: set[str] = {"10.0.0.1"}

    def add(one: str) -> bool:
        is_new = one not in machine
        machine.add(one)
        return is_new

    monkeypatch.setattr(address, "add", add)
    monkeypatch.setattr(address, "remove", machine.discard)
    record = tmp_path / address.RECORD
    assert address.take("169.254.1.2", record)
    assert address.take("169.254.1.2", record), "after a crash"
    address.give_back(record)
    assert machine == {"10.0.0.1"}
    assert not address.take("10.0.0.1", record), "the machine had it before"
    address.give_back(record)
    assert machine == {"10.0.0.1"}


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "1.2.3.4/32"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wanted an IP address"):
        address.family_of(text)


def test_versions_of_a_new_store_are_above_those_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "versions.json"
    first = versions_base(path, 7, 1_800_000_000.0)
    assert versions_base(path, 7, 1_900_000_000.0) == first, "the same store keeps them"
    second = versions_base(path, 8, 1_700_000_000.0)
    assert second > first + (1 << 39), "even when the clock went back"
    assert versions_base(path, 8, 1_800_000_000.0) == second
    assert second < 1 << 53


def test_discovery_lists_all_kinds_and_the_table_those_of_the_view(tmp_path: Path) -> None:
    documents.write(tmp_path, "127.0.0.1:10550")
    index = json.loads((tmp_path / "index.json").read_text())
    paths = {path for _, path, _, _ in index}
    assert {"/api", "/apis", "/api/v1", "/apis/apps/v1"} <= paths
    for name, _, media_type, tag in index:
        assert json.loads((tmp_path / name).read_text())["kind"]
        assert media_type.startswith("application/json")
        assert tag
    rows = json.loads((tmp_path / "resources.json").read_text())
    assert {(row["group"], row["resource"]) for row in rows} == {*VIEW, *WAITING}
    stamp = (tmp_path / "index.json").stat().st_mtime_ns
    documents.write(tmp_path, "127.0.0.1:10550")
    assert (tmp_path / "index.json").stat().st_mtime_ns == stamp, "written once"


def test_every_kind_of_the_view_is_one_that_is_served() -> None:
    assert all(find(group, resource) is not None for group, resource in VIEW)


async def test_pods_trust_the_node_beside_the_cluster(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", mode="replica", durable=False)
    running = asyncio.create_task(store.run())
    objects = NodeObjects(store, "NODE\n")
    root, other = config_map("d", "kube-root-ca.crt"), config_map("d", "other")
    for key in (root, other):
        value = {"metadata": {"name": key.name}, "data": {"ca.crt": "CLUSTER\n", "x": "y"}}
        await store.commit([put(key, json.dumps(value).encode())])
    found = objects.get(root)
    assert found is not None
    assert found["data"] == {"ca.crt": "CLUSTER\nNODE\n", "x": "y"}
    plain = objects.get(other)
    assert plain is not None
    assert plain["data"]["ca.crt"] == "CLUSTER\n"
    assert objects.get(config_map("d", "absent")) is None
    running.cancel()
    store.close()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("metaserver_listen", "10550", "wanted: ADDRESS:PORT"),
        ("metaserver_listen", "localhost:10550", "wanted: ADDRESS:PORT"),
        ("metaserver_listen", "127.0.0.1:0", "wanted: ADDRESS:PORT"),
        ("metaserver_listen", "127.0.0.1:70000", "wanted: ADDRESS:PORT"),
        ("metaserver_pod_address", "node", "wanted: an IP address"),
    ],
)
def test_addresses_that_cannot_be_are_refused(setting: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EdgeConfig(**{setting: value})
