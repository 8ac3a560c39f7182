# SPDX-License-Identifier: Apache-2.0
"""Nobody gives away what he does not have."""

from __future__ import annotations

import pytest

from kedge.api import static_pods
from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.access import GROUP, Access, Escalation, User
from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.errors import Forbidden, NotFound

READ_PODS = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
READ_SECRETS = {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}
WRITER = WriteOptions(user=User("writer"))


class Decider:
    """The writer has reading of pods, and the verbs in ``special`` on any role."""

    def __init__(self, *special):
        self.special = special

    def allows(self, user, verb, about):
        return verb in self.special

    def allows_url(self, user, verb, path):
        return False

    def lacks(self, user, namespace, rules):
        return [str(one) for one in rules if one != READ_PODS]


def role(*rules):
    return {"metadata": {"name": "r"}, "rules": list(rules)}


def binding(name="r", kind="Role"):
    subject = {"kind": "User", "name": "somebody"}
    return {
        "metadata": {"name": "b"},
        "roleRef": {"kind": kind, "name": name},
        "subjects": [subject],
    }


def key(resource, name):
    return ObjectKey(GROUP, resource, "default", name)


@pytest.fixture
def guarded(registry):
    def guarded(*special):
        registry.guard(Escalation(Access(Decider(*special)), registry.store))
        return registry

    return guarded


async def test_a_role_may_hold_what_its_writer_has_and_no_more(guarded):
    registry = guarded()
    made = await registry.create(key("roles", "r"), role(READ_PODS), WRITER)
    made["rules"].append(READ_SECRETS)
    with pytest.raises(Forbidden, match="attempting to grant RBAC permissions not currently held"):
        await registry.update(key("roles", "r"), made, options=WRITER)
    assert registry.get(key("roles", "r"))["rules"] == [READ_PODS]


async def test_who_may_escalate_may_write_any_role(guarded):
    await guarded("escalate").create(key("roles", "r"), role(READ_SECRETS), WRITER)


async def test_a_binding_gives_only_what_its_writer_has_or_may_bind(guarded):
    registry = guarded()
    await registry.create(key("roles", "r"), role(READ_SECRETS))
    with pytest.raises(Forbidden):
        await registry.create(key("rolebindings", "b"), binding(), WRITER)
    with pytest.raises(NotFound):
        await registry.create(key("rolebindings", "b"), binding("nobody"), WRITER)
    await guarded("bind").create(key("rolebindings", "b"), binding(), WRITER)


async def test_kedge_itself_and_changes_of_labels_are_not_guarded(guarded):
    registry = guarded()
    made = await registry.create(key("roles", "r"), role(READ_SECRETS))
    made["metadata"]["labels"] = {"a": "b"}
    await registry.update(key("roles", "r"), made, options=WRITER)


async def test_nobody_gives_anything_before_the_server_listens(registry):
    registry.guard(Escalation(Access(), registry.store))
    with pytest.raises(Forbidden):
        await registry.create(key("roles", "r"), role(READ_PODS), WRITER)


async def test_the_cloud_creates_mirrors_of_static_pods_and_no_other_pods(registry):
    cloud = WriteOptions(user=User("kedge-cloud", ("kedge:cloud",)))
    key = ObjectKey("", "pods", "default", "p")
    spec = {"nodeName": "n", "containers": [{"name": "c", "image": "i:1"}]}
    with pytest.raises(Forbidden, match="mirror pods only"):
        await registry.create(key, {"metadata": {"name": "p"}, "spec": spec}, cloud)
    metadata = {"name": "p", "annotations": {static_pods.MIRROR: "u"}}
    await registry.create(key, {"metadata": metadata, "spec": spec}, cloud)
