# SPDX-License-Identifier: Apache-2.0
"""The command line itself: its help, its failures, its small parsers."""

from __future__ import annotations

import sys
import time

import pytest

from kedge.ctl import __main__ as ctl
from kedge.ctl import join, token_commands
from kedge.ctl.failure import Failure
from kedge.hub.tokens import Grant

HELP = """\
Usage: kedge [OPTIONS] COMMAND [ARGS]...
Kubernetes at the edge: one object store that replicates.
Options
--help Show this message and exit.
Commands
up Run all of kedge on this machine, in the foreground, until interrupted.
join Make this machine a node: get its certificate, write its configuration.
status Show how the node in a directory is: link, store, pods, what waits to be sent.
reset Undo a join: end the node's pods, remove what it made, its identity last.
backup Back up the cluster in a directory, while it runs or stopped: objects, authority, keys.
restore Bring a cluster back from a backup, in a directory that has none.
version Print the version.
token Join tokens: what lets a machine become a node.
image Images on a node: for one that never sees a registry.
store Look into a store of a stopped node or cluster."""

UP_FLAGS = {
    "--dir",
    "--api-port",
    "--hub-port",
    "--node-name",
    "--node-domain",
    "--runtime-endpoint",
    "--no-edge",
    "--help",
}


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["kedge", *words])
    with pytest.raises(SystemExit) as ended:
        ctl.main()
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def plain(text):
    """Help without boxes and padding."""
    lines = [
        " ".join(raw.strip(" │╭╮╰╯─").replace("<bool>", "").split()) for raw in text.splitlines()
    ]
    return "\n".join(line for line in lines if line)


def test_the_help_is_this(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    _, out, _ = run(monkeypatch, capsys, "--help")
    assert plain(out) == HELP


def test_up_has_the_flags_that_others_script(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = run(monkeypatch, capsys, "up", "--help")
    assert {word for word in plain(out).split() if word.startswith("--")} == UP_FLAGS


def test_a_failure_is_a_line_with_the_cause_and_one_with_the_fix(monkeypatch, capsys, tmp_path):
    code, out, _ = run(monkeypatch, capsys, "status", "--dir", str(tmp_path))
    assert code == (
        f"error: no node in {tmp_path} [NoNode]\n"
        "hint: give the --dir of kedge join (kedge up: DIR/edge)"
    )
    assert out == ""


def test_no_kubeconfig_is_said(monkeypatch, capsys, tmp_path):
    code, _, _ = run(monkeypatch, capsys, "token", "create", "--kubeconfig", str(tmp_path / "x"))
    assert "[NoKubeconfig]" in str(code)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604800)]
)
def test_times_to_live_have_a_unit(text, seconds):
    assert token_commands.parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1.5h", "1w", "9999999999s"])
def test_other_times_to_live_are_refused(text):
    with pytest.raises(Failure, match="--ttl: wanted a number and s, m, h or d"):
        token_commands.parse_ttl(text)


def test_how_long_a_token_holds_is_shown_in_one_unit():
    now = time.time()
    assert token_commands.expiry_text(Grant("a", int(now) + 7200), now - 1) == "in 2h"
    assert token_commands.expiry_text(Grant("a", int(now) - 1), now) == "expired"


@pytest.mark.parametrize(
    ("text", "address"),
    [("a:1", ("a", 1)), ("[::1]:10000", ("::1", 10000)), (" https://a.b:65535", ("a.b", 65535))],
)
def test_addresses_are_host_and_port(text, address):
    assert join.parse_address(text) == address


@pytest.mark.parametrize("text", ["", "a", ":1", "a:", "a:0", "a:65536", "a:x", "a:-1"])
def test_other_addresses_are_refused(text):
    with pytest.raises(Failure, match="wanted HOST:PORT"):
        join.parse_address(text)
