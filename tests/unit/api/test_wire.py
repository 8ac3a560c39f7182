# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.api import wire
from kedge.errors import BadRequest


def varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value)


def data(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def body(api_version, kind, raw):
    return wire.MAGIC + data(1, data(1, api_version) + data(2, kind)) + data(2, raw)


def test_a_deployment_is_read_with_inlined_and_scalar_types():
    container = (
        data(1, "c")
        + data(2, "image:1")
        + data(8, data(1, data(1, "cpu") + data(2, data(1, "100m"))))
    )
    volume = data(1, "v") + data(2, data(2, b""))
    template = data(1, data(11, data(1, "app") + data(2, "web"))) + data(
        2, data(2, container) + data(1, volume)
    )
    rolling = data(2, data(1, number(1, 1) + number(2, 0) + data(3, "25%")))
    raw = data(1, data(1, "web") + data(8, b"")) + data(
        2, number(1, 0) + data(3, template) + number(5, 0) + data(4, rolling)
    )
    assert wire.decode(body("apps/v1", "Deployment", raw)) == {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 0,
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {"name": "c", "image": "image:1", "resources": {"limits": {"cpu": "100m"}}}
                    ],
                    "volumes": [{"name": "v", "emptyDir": {}}],
                },
            },
            "strategy": {"rollingUpdate": {"maxUnavailable": "25%"}},
        },
    }


def test_bytes_times_and_negative_numbers_are_read():
    secret = data(1, data(1, "s") + data(8, number(1, 1_700_000_000))) + data(
        2, data(1, "k") + data(2, b"\x00\xff")
    )
    read = wire.decode(body("v1", "Secret", secret))
    assert read["data"] == {"k": "AP8="}
    assert read["metadata"]["creationTimestamp"] == "2023-11-14T22:13:20Z"
    assert (
        wire.decode(body("meta.k8s.io/v1", "DeleteOptions", number(1, -1)))["gracePeriodSeconds"]
        == -1
    )


@pytest.mark.parametrize(
    "broken",
    [
        b"", b"{}", wire.MAGIC, body("v1", "Nothing", b""), body("v1", "Pod", b"\x0a\x05abc"),
        body("v1", "Pod", number(1, 5)), body("v1", "Pod", b"\xff" * 11), body("v1", "Pod", data(1, data(1, b"\xff"))),
    ],
)  # fmt: skip
def test_a_malformed_body_is_refused(broken):
    with pytest.raises(BadRequest):
        wire.decode(broken)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(raw):
    with contextlib.suppress(BadRequest):
        wire.decode(body("v1", "Pod", raw))
