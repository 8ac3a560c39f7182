# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import stat

import pytest
import yaml

from kedge import config
from kedge.cluster import app, credentials
from kedge.cluster.__main__ import main
from kedge.cluster.config import ClusterConfig
from kedge.errors import ConfigError
from kedge.hub import certificates
from kedge.store import Store


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listen: here", "listen: got: 'here', wanted: ADDRESS:PORT"),
        ("listen: 127.0.0.1:99999", "wanted: ADDRESS:PORT"),
        ("serviceCidr: ten", "serviceCidr: got: 'ten', wanted: a network"),
        ("nodeDomain: Nodes.example", "nodeDomain: got: 'Nodes.example': a lowercase RFC 1123"),
        (
            "nodeDomain: example.com\nnames: [API.example.com]",
            "nodeDomain: got: 'example.com', wanted: one without 'API.example.com'",
        ),
        ("nodeDomain: cluster.local", "wanted: one without 'kubernetes.default.svc.cluster.local'"),
        ("eventTtlSeconds: 1", "eventTtlSeconds: got: 1, wanted"),
        ("colour: blue", "colour: unknown setting"),
        ("a: [", "not YAML at line"),
    ],
)
def test_a_bad_config_names_file_key_what_was_there_and_what_was_wanted(
    tmp_path, capsys, text, words
):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    assert main(["--config", str(path)]) == config.EXIT_CONFIG
    error = capsys.readouterr().err
    assert str(path) in error
    assert words in error


def test_help_describes_every_setting(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for name in ClusterConfig.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in text
    assert "address and port of the API server" in text


def test_a_damaged_store_stops_the_cluster_with_a_way_back(tmp_path):
    directory = tmp_path / "store"
    Store.open(directory, mode="primary").close()
    for path in directory.iterdir():
        if path.stat().st_size > 4096:
            path.write_bytes(b"\x5a" * path.stat().st_size)
    with pytest.raises(ConfigError, match="damaged") as caught:
        app.open_store(directory, 1000, 300)
    assert "kedge restore" in str(caught.value)
    assert f"move only {directory} aside" in str(caught.value)


def test_keys_are_made_once_private_and_leaves_anew(tmp_path):
    first = credentials.prepare(tmp_path, ["10.0.0.1", "example.com", "*.nodes.example"])
    second = credentials.prepare(tmp_path, [])
    assert (first.ca, first.accounts_key) == (second.ca, second.accounts_key)
    assert first.server != second.server
    sans = certificates.inspect(first.server.certificate).sans
    assert {"DNS:example.com", "IP:10.0.0.1", "DNS:localhost", "IP:127.0.0.1"} <= set(sans)
    assert "DNS:*.nodes.example" in sans
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_of_another_authority_is_refused(tmp_path):
    credentials.prepare(tmp_path, [])
    (tmp_path / "ca.key").write_text(certificates.new_key())
    with pytest.raises(ConfigError, match="does not belong to"):
        credentials.prepare(tmp_path, [])


def test_a_kubeconfig_is_private_and_whole(tmp_path):
    made = credentials.prepare(tmp_path / "pki", [])
    path = tmp_path / "kubeconfig"
    credentials.write_kubeconfig(path, made.ca, "https://127.0.0.1:1", credentials.ADMIN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    document = yaml.safe_load(path.read_text())
    assert document["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert document["current-context"] == document["contexts"][0]["name"]
