# SPDX-License-Identifier: Apache-2.0
"""Who may what, asked by document: what is refused, and what is answered."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.api.kinds import find
from kedge.cluster.apiserver.access import GROUP as RBAC
from kedge.cluster.apiserver.access import Access, User
from kedge.cluster.apiserver.reviews import Reviews
from kedge.cluster.apiserver.tokens import Tokens
from kedge.errors import BadRequest, Invalid
from kedge.hub import certificates

JANE = User("jane", ("dev",))
PODS = {"verb": "get", "resource": "pods", "namespace": "default"}


class Decider:
    """Jane may read pods of the default namespace; nobody may anything else."""

    def allows(self, user, verb, about):
        return (user.name, verb, about.resource, about.namespace) == (
            "jane", "get", "pods", "default",
        )  # fmt: skip

    def allows_url(self, user, verb, path):
        return (user.name, verb, path) == ("jane", "get", "/metrics")

    def lacks(self, user, namespace, rules):
        return []

    def rules(self, user, namespace):
        return {"resourceRules": [], "nonResourceRules": [], "incomplete": False}


@pytest.fixture
def reviews(registry):
    tokens = Tokens(registry, certificates.new_key(), "here")
    return Reviews(tokens, Access(Decider()), registry.store)


def ask(reviews, review: str, spec: Any, where: str = "", user: User = JANE, **metadata: Any):
    group = "authentication.k8s.io" if review in ("TokenReview", "SelfSubjectReview") else ""
    kind = find(group or "authorization.k8s.io", f"{review.lower()}s")
    assert kind is not None
    body = {"kind": review, "apiVersion": kind.api_version, "spec": spec}
    if metadata:
        body["metadata"] = metadata
    return reviews.answer(kind, where, body, user)["status"]


def causes(reviews, *args: Any, **more: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as raised:
        ask(reviews, *args, **more)
    return [(one["field"], one["message"]) for one in raised.value.details["causes"]]


def test_a_local_review_is_answered_for_its_namespace(reviews):
    spec = {"user": "jane", "resourceAttributes": PODS}
    assert ask(reviews, "LocalSubjectAccessReview", spec, "default") == {"allowed": True}
    other = {"user": "john", "resourceAttributes": PODS}
    assert ask(reviews, "LocalSubjectAccessReview", other, "default") == {"allowed": False}


def test_a_local_review_asks_of_no_other_namespace_and_no_path(reviews):
    name, spec = "LocalSubjectAccessReview", {"user": "jane", "resourceAttributes": PODS}
    assert causes(reviews, name, spec, "other") == [
        (
            "spec.resourceAttributes.namespace",
            'Invalid value: "default": must match metadata.namespace',
        )
    ]
    url = {"user": "jane", "nonResourceAttributes": {"verb": "get", "path": "/metrics"}}
    found = causes(reviews, name, url, "default")
    assert [path for path, _ in found] == ["spec.nonResourceAttributes"]
    assert found[0][1].endswith("disallowed on this kind of request")
    with pytest.raises(BadRequest, match="does not match the namespace sent on the request"):
        ask(reviews, name, spec, "default", namespace="other")
    found = causes(reviews, name, spec, "default", namespace="default", labels={"a": "b"})
    assert found[0][1].endswith("must be empty except for namespace")


@pytest.mark.parametrize(
    ("spec", "path", "says"),
    [
        (
            {"user": "jane"},
            "spec.resourceAttributes",
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (
            {"user": "jane", "resourceAttributes": PODS, "nonResourceAttributes": {}},
            "spec.nonResourceAttributes",
            "cannot be specified in combination with resourceAttributes",
        ),
        (
            {"resourceAttributes": PODS},
            "spec.user",
            'Invalid value: "": at least one of user or group must be specified',
        ),
        (
            {"user": "a", "resourceAttributes": {**PODS, "labelSelector": {}}},
            "spec.resourceAttributes.labelSelector.requirements",
            "when labelSelector is specified, requirements or rawSelector is required",
        ),
    ],
)
def test_a_question_is_about_one_thing_and_one_user(reviews, spec, path, says):
    ((found, message),) = causes(reviews, "SubjectAccessReview", spec)
    assert found == path
    assert message.endswith(says)


def test_a_review_has_no_name(reviews):
    spec = {"resourceAttributes": PODS}
    assert ask(reviews, "SelfSubjectAccessReview", spec) == {"allowed": True}
    ((path, message),) = causes(reviews, "SelfSubjectAccessReview", spec, name="x")
    assert (path, message) == ("metadata", 'Invalid value: {"name":"x"}: must be empty')


@pytest.mark.parametrize(
    "name", ["SelfSubjectAccessReview", "SelfSubjectRulesReview", "TokenReview"]
)
def test_a_question_of_another_shape_is_a_bad_request(reviews, name):
    with pytest.raises(BadRequest, match="cannot unmarshal string"):
        ask(reviews, name, "x")


def test_a_question_without_its_subject_says_what_is_missing(reviews):
    with pytest.raises(BadRequest, match="no namespace on request"):
        ask(reviews, "SelfSubjectRulesReview", {})
    with pytest.raises(BadRequest, match="token is required for TokenReview in authentication"):
        ask(reviews, "TokenReview", {})


async def test_rules_name_the_roles_that_are_bound_and_missing(reviews, registry):
    async def bind(resource, kind, subject, namespace="", role="gone"):
        key = ObjectKey(RBAC, resource, namespace, f"{kind}-{subject['name']}-{role}".lower())
        body = {
            "metadata": {"name": key.name},
            "roleRef": {"kind": kind, "name": role},
            "subjects": [subject],
        }
        await registry.create(key, body)

    assert "evaluationError" not in ask(reviews, "SelfSubjectRulesReview", {"namespace": "default"})
    await bind("clusterrolebindings", "ClusterRole", {"kind": "Group", "name": "dev"})
    await bind("clusterrolebindings", "ClusterRole", {"kind": "User", "name": "john"})
    found = ask(reviews, "SelfSubjectRulesReview", {"namespace": "default"})
    assert found["evaluationError"] == f'clusterrole.{RBAC} "gone" not found'
    await bind("rolebindings", "Role", {"kind": "User", "name": "jane"}, "default")
    found = ask(reviews, "SelfSubjectRulesReview", {"namespace": "default"})
    assert found["evaluationError"] == (
        f'[clusterrole.{RBAC} "gone" not found, role.{RBAC} "gone" not found]'
    )
    account = {"kind": "ServiceAccount", "name": "robot", "namespace": "other"}
    await bind("clusterrolebindings", "ClusterRole", account, role="mine")
    robot = User("system:serviceaccount:other:robot")
    found = ask(reviews, "SelfSubjectRulesReview", {"namespace": "default"}, user=robot)
    assert found["evaluationError"] == f'clusterrole.{RBAC} "mine" not found'
