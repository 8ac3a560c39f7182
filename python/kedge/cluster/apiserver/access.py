# SPDX-License-Identifier: Apache-2.0
"""Who may do what, as the HTTP side decides it, and nobody giving away what he does not have.

Rust enforces the rows of ``server.POLICY`` and the roles in the store; ``Access`` asks it, so that
``kubectl auth can-i`` and the guard against escalation say the same as a request would hear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson

from kedge.api import static_pods
from kedge.api.keys import ObjectKey
from kedge.errors import Forbidden, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.api.kinds import Kind
    from kedge.store import Store

Object = dict[str, Any]
GROUP = "rbac.authorization.k8s.io"
CLOUD = "kedge:cloud"


class User(NamedTuple):
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()


class About(NamedTuple):
    """A resource; what is empty is all of it."""

    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class Decider(Protocol):
    """The HTTP side, or a test's stand-in."""

    def allows(self, user: User, verb: str, about: About) -> bool:
        """Whether a user may do something to a resource."""

    def allows_url(self, user: User, verb: str, path: str) -> bool:
        """Whether a user may do something with a path that is no resource."""

    def lacks(self, user: User, namespace: str, rules: Sequence[Object]) -> list[str]:
        """What of some rules a user does not have."""

    def rules(self, user: User, namespace: str) -> Object:
        """What a user may do in a namespace, as the status of a SelfSubjectRulesReview."""


@dataclass(slots=True)
class Access:
    """Asks the decider; it exists only once the server listens, later than those who ask.

    Attributes:
        decider: who decides; nobody may do anything before it is there.
    """

    decider: Decider | None = None

    def allows(self, user: User, verb: str, about: About) -> bool:
        """Whether a user may do something to a resource."""
        return self.decider is not None and self.decider.allows(user, verb, about)

    def allows_url(self, user: User, verb: str, path: str) -> bool:
        """Whether a user may do something with a path that is no resource."""
        return self.decider is not None and self.decider.allows_url(user, verb, path)

    def lacks(self, user: User, namespace: str, rules: Sequence[Object]) -> list[str]:
        """What of some rules a user does not have, in words; empty when he has all."""
        return ["*"] if self.decider is None else self.decider.lacks(user, namespace, rules)

    def rules(self, user: User, namespace: str) -> Object:
        """What a user may do in a namespace, as the status of a SelfSubjectRulesReview."""
        if self.decider is None:
            return {"resourceRules": [], "nonResourceRules": [], "incomplete": True}
        return self.decider.rules(user, namespace)


def check_cloud(kind: Kind, new: Object, user: User) -> None:
    """Lets the cloud create no pods but the mirrors of a node's static ones.

    Raises:
        Forbidden: it is another pod.
    """
    if CLOUD not in user.groups or (kind.group, kind.resource) != ("", "pods"):
        return
    is_mirror = static_pods.MIRROR in (new["metadata"].get("annotations") or {})
    if not is_mirror or not new.get("spec", {}).get("nodeName"):
        name = new["metadata"].get("name", "")
        raise Forbidden(
            f'pods "{name}" is forbidden: User {user.name!r} may create mirror pods only',
            {"name": name, "kind": "pods"},
        )


class Escalation:
    """Refuses roles and bindings that give more than their writer has (RBAC's escalation rule).

    Args:
        access: who has what.
        store: where roles are.
    """

    def __init__(self, access: Access, store: Store) -> None:
        self._access = access
        self._store = store

    def check(self, kind: Kind, new: Object, old: Object | None, user: User) -> None:
        """Checks a role or binding before it is written.

        Raises:
            Forbidden: the user would give what he does not have.
            NotFound: a binding's role does not exist, and the user may not bind it unseen.
        """
        if kind.group != GROUP:
            return
        namespace = new["metadata"].get("namespace", "")
        if kind.resource in ("roles", "clusterroles"):
            if old is not None and old.get("rules") == new.get("rules"):
                return
            about = About(GROUP, kind.resource, "", namespace, new["metadata"]["name"])
            if not self._access.allows(user, "escalate", about):
                self._refuse(kind, new, user, self._missing(user, namespace, new))
            return
        if old is not None and old.get("subjects") == new.get("subjects"):
            return
        role = new["roleRef"]
        resource = "roles" if role["kind"] == "Role" else "clusterroles"
        where = namespace if resource == "roles" else ""
        about = About(GROUP, resource, "", namespace, role["name"])
        if self._access.allows(user, "bind", about):
            return
        found = self._store.get(ObjectKey(GROUP, resource, where, role["name"]))
        if found is None:
            raise NotFound(f'{resource}.{GROUP} "{role["name"]}" not found')
        missing = self._missing(user, namespace, orjson.loads(found.value))
        self._refuse(kind, new, user, missing)

    def check_create(self, kind: Kind, key: ObjectKey, user: User) -> None:
        """Checks that somebody may create, who asked for something else that comes to it.

        Raises:
            Forbidden: he may not.
        """
        about = About(kind.group, kind.resource, "", key.namespace, key.name)
        if self._access.allows(user, "create", about):
            return
        where = f' in the namespace "{key.namespace}"' if key.namespace else " at the cluster scope"
        raise Forbidden(
            f'{kind.group_resource} "{key.name}" is forbidden: User "{user.name}" cannot create resource '
            f'"{kind.resource}" in API group "{kind.group}"{where}',
            {"name": key.name, "group": kind.group, "kind": kind.resource},
        )

    def _missing(self, user: User, namespace: str, role: Object) -> list[str]:
        return self._access.lacks(user, namespace, role.get("rules") or [])

    @staticmethod
    def _refuse(kind: Kind, new: Object, user: User, missing: list[str]) -> None:
        if not missing:
            return
        name = new["metadata"]["name"]
        who = f"user {user.name!r} (groups={sorted(user.groups)})"
        what = "; ".join(missing[:20])
        raise Forbidden(
            f'{kind.group_resource} "{name}" is forbidden: {who} is attempting to grant RBAC permissions '
            f"not currently held: {what}",
            {"name": name, "group": kind.group, "kind": kind.resource},
        )
