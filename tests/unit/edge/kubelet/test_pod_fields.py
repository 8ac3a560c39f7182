# SPDX-License-Identifier: Apache-2.0
"""The table of a pod's fields against the API's types, and what is said with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kedge.api.schema import Field, Struct, struct, structs
from kedge.edge.kubelet.admission import pod_fields, unhonoured
from kedge.edge.kubelet.admission.pod_fields import INERT, MAYBE, NO, PLANE, REFUSED, TABLE, YES
from tests.unit.edge.kubelet.builders import pod, spec

SPOKEN_FOR = (NO, REFUSED, INERT)
"""Kinds of rows that speak for the fields below them."""


def type_of(name: str) -> Struct:
    return structs().get(f"core.v1.{name}") or struct(f"meta.v1.{name}")


def nested_type(field: Field) -> str:
    while field.item is not None:
        field = field.item
    return field.struct.name.rpartition(".")[2] if field.struct else ""


def reachable() -> Iterator[str]:
    """The types that the table has to have: from the roots through every row that has fields below."""
    seen: set[str] = set()
    todo = list(pod_fields.ROOTS)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        for field, row in TABLE.get(name, {}).items():
            if row[0] not in SPOKEN_FOR and field in type_of(name).fields:
                nested = nested_type(type_of(name).fields[field])
                todo += [nested] if nested else []


def test_the_table_has_every_type_that_a_pod_is_made_of_and_no_other() -> None:
    assert set(TABLE) == set(reachable())


@pytest.mark.parametrize("name", sorted(TABLE))
def test_the_table_has_every_field_of_a_type_and_no_other(name: str) -> None:
    assert set(TABLE[name]) == set(type_of(name).fields)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_row_names_the_type_of_its_field(name: str) -> None:
    for field, row in TABLE[name].items():
        kind, nested = row[0], row[2] if len(row) > 2 else ""
        assert kind in pod_fields.KINDS, field
        if kind in SPOKEN_FOR:
            assert kind == NO or row[1], f"{field}: the note says who refuses it, or why nothing"
        else:
            assert nested == nested_type(type_of(name).fields[field]), field


def test_what_passes_for_plain_is_honoured_wherever_it_stands() -> None:
    todo, seen = ["PodSpec"], set()
    while todo:
        name = todo.pop()
        seen.add(name)
        for field, row in TABLE[name].items():
            if field not in unhonoured.PLAIN or (name, field) == ("PodSpec", "resources"):
                continue
            assert row[0] in (YES, PLANE, MAYBE, INERT, REFUSED), f"{name}.{field}"
            nested = row[2] if len(row) > 2 else ""
            if nested and nested not in seen and field not in unhonoured._OPAQUE:
                todo.append(nested)


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (pod(resourceClaims=[{"name": "a"}]), ["spec.resourceClaims"]),
        (pod(spec(resources={"claims": [{"name": "a"}]})), ["spec.containers[main].resources.claims"]),
        (pod(spec(volumeMounts=[{"name": "v", "mountPath": "/v", "recursiveReadOnly": "IfPossible"}])), []),
        (pod(spec(resources={"limits": {"strange.io/thing": "1"}}), nodeSelector={"strange": "yes"}), []),
        (pod(), []),
        (pod(brandNew=True), ["spec.brandNew"]),
    ],
)  # fmt: skip
def test_a_pod_is_told_of_each_field_that_is_not_honoured(
    held: dict[str, Any], wanted: list[str]
) -> None:
    said = unhonoured.unhonoured(held)
    assert len(said) == len(wanted), said
    for text, path in zip(said, wanted, strict=True):
        assert text.startswith(f"{path} is not ")


def test_a_plain_pod_does_not_load_the_table() -> None:
    code = (
        "import sys; from kedge.edge.kubelet.admission.unhonoured import unhonoured\n"
        "assert unhonoured({'spec': {'containers': [{'name': 'a', 'image': 'b', 'resources': {'limits': {'cpu': 1}},"
        " 'readinessProbe': {'httpGet': {'port': 1}}}], 'tolerations': [{'key': 'a'}]}}) == []\n"
        "assert 'kedge.edge.kubelet.admission.pod_fields' not in sys.modules\n"
        "assert len(unhonoured({'spec': {'resourceClaims': [{}]}})) == 1\n"
        "assert 'kedge.edge.kubelet.admission.pod_fields' in sys.modules"
    )
    python = Path(__file__).resolve().parents[4] / "python"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(python), "PATH": "/usr/bin"},
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
