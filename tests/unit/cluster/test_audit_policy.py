# SPDX-License-Identifier: Apache-2.0
"""Audit policy files that are understood, and those that are not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from kedge.cluster import audit_policy
from kedge.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
apiVersion: audit.k8s.io/v1
kind: Policy
metadata: {name: x}
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: [watch]
  resources: [{group: "", resources: [endpoints, services/status]}]
- level: Request
  resources: [{resources: [configmaps], resourceNames: [a]}]
  namespaces: [kube-system]
  omitManagedFields: true
- level: Metadata
  userGroups: ["system:authenticated"]
  nonResourceURLs: ["/api*", "*", /version]
- level: RequestResponse
  omitStages:
"""


def document(**rule: Any) -> dict[str, Any]:
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [rule]}


def test_a_policy_is_read_without_what_the_server_does_not_need(tmp_path: Path):
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)
    found = audit_policy.read(path)
    assert set(found) == {"omitStages", "rules"}
    assert [rule["level"] for rule in found["rules"]] == [
        "None", "Request", "Metadata", "RequestResponse",
    ]  # fmt: skip
    assert "omitStages" not in found["rules"][3]


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"level": "All"}, 'rules[0].level: Unsupported value: "All"'),
        ({}, "rules[0].level: Required value"),
        ({"level": "None", "user": []}, 'unknown field "rules[0].user"'),
        ({"level": "None", "users": "jane"}, "rules[0].users: wanted: list"),
        ({"level": "None", "verbs": [1]}, "rules[0].verbs[0]: wanted: a text"),
        ({"level": "None", "resources": ["pods"]}, "rules[0].resources[0]: wanted: an object"),
        (
            {"level": "None", "resources": [{"resources": [{}]}]},
            "rules[0].resources[0].resources[0]: wanted: a text",
        ),
        (
            {"level": "None", "resources": [{"group": "A/v1"}]},
            "rules[0].resources[0].group: Invalid value",
        ),
        (
            {"level": "None", "resources": [{"resourceNames": ["a"]}]},
            "using resourceNames requires at least one resource",
        ),
        (
            {"level": "None", "nonResourceURLs": ["/a"], "namespaces": ["b"]},
            "rules cannot apply to both regular resources and non-resource URLs",
        ),
        (
            {"level": "None", "nonResourceURLs": ["api"]},
            "non-resource URL rules must begin with a '/' character",
        ),
        (
            {"level": "None", "nonResourceURLs": ["/a*b"]},
            "wildcards '*' must be the final character of the rule",
        ),
        (
            {"level": "None", "omitStages": ["Later"]},
            "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
        ),
    ],
)
def test_what_is_not_understood_is_refused_with_its_path(rule: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=re.escape(says)):
        audit_policy.checked(document(**rule))


def test_a_file_that_is_no_policy_is_refused_with_its_name(tmp_path: Path):
    path = tmp_path / "policy.yaml"
    for text, says in (
        (None, "cannot be read"),
        ("kind: Policy\napiVersion: audit.k8s.io/v1beta1", "wanted: audit.k8s.io/v1 Policy"),
        ("kind: Policy\napiVersion: audit.k8s.io/v1", "illegal policy with 0 rules"),
    ):
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigError, match=says) as raised:
            audit_policy.read(path)
        assert str(path) in str(raised.value)
