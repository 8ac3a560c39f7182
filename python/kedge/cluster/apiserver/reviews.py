# SPDX-License-Identifier: Apache-2.0
"""Documents that are posted to ask something: who am I, may I, is this token good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kedge.api.keys import ObjectKey
from kedge.api.validation import Problems, reviews
from kedge.cluster.apiserver import bodies
from kedge.cluster.apiserver.access import GROUP as RBAC
from kedge.cluster.apiserver.access import About, User
from kedge.cluster.apiserver.tokens import PREFIX
from kedge.errors import BadRequest, CertificateError

if TYPE_CHECKING:
    from kedge.api.kinds import Kind
    from kedge.cluster.apiserver.access import Access
    from kedge.cluster.apiserver.tokens import Tokens
    from kedge.store import Store

Object = dict[str, Any]

MAX_MISSING = 20
"""Roles that are named as missing."""


class Reviews:
    """Answers reviews.

    Args:
        tokens: who knows tokens.
        access: who knows who may do what.
        store: where roles and their bindings are.
    """

    def __init__(self, tokens: Tokens, access: Access, store: Store) -> None:
        self._tokens = tokens
        self._access_of = access
        self._store = store

    def answer(self, kind: Kind, namespace: str, body: Object, user: User) -> Object:
        """Fills in the status of a review.

        Args:
            kind: which review.
            namespace: of the request.
            body: the document; changed.
            user: who asks.

        Raises:
            BadRequest: nothing is asked.
            Invalid: the question is against a rule.
        """
        bodies.decode(kind, body, bodies.WriteOptions())
        metadata, spec = bodies.metadata_of(body), body.get("spec", {})
        match kind.kind:
            case "SelfSubjectReview":
                status: Object = {"userInfo": {"username": user.name, "groups": list(user.groups)}}
            case "SelfSubjectRulesReview":
                status = self._rules(spec, user)
            case "TokenReview":
                status = self._token(spec)
            case "SelfSubjectAccessReview":
                _check(kind, body)
                status = self._access(spec, user)
            case _:
                bodies.place(kind, ObjectKey(kind.group, kind.resource, namespace, ""), metadata)
                _check(kind, body)
                who = User(spec.get("user", ""), tuple(spec.get("groups") or ()))
                status = self._access(spec, who)
        body["status"] = status
        return body

    def _access(self, spec: Object, user: User) -> Object:
        resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if resource is None:
            asked: Object = path or {}
            verb, where = asked.get("verb", ""), asked.get("path", "")
            return {"allowed": self._access_of.allows_url(user, verb, where)}
        about = About(*(resource.get(field, "") for field in About._fields))
        return {"allowed": self._access_of.allows(user, resource.get("verb", ""), about)}

    def _rules(self, spec: Object, user: User) -> Object:
        namespace = spec.get("namespace", "")
        if not namespace:
            raise BadRequest("no namespace on request")
        status = self._access_of.rules(user, namespace)
        missing = self._missing_roles(user, namespace)
        if missing:
            listed = ", ".join(missing[:MAX_MISSING])
            status["evaluationError"] = listed if len(missing) == 1 else f"[{listed}]"
        return status

    def _missing_roles(self, user: User, namespace: str) -> list[str]:
        """What is wrong with bindings of a user: their roles do not exist."""
        rows = [*self._store.list(RBAC, "clusterrolebindings").items]
        rows += self._store.list(RBAC, "rolebindings", namespace=namespace).items
        found = []
        for row in rows:
            binding = orjson.loads(row.value)
            if not _is_for(binding, user):
                continue
            role = binding["roleRef"]
            local = role["kind"] == "Role"
            where, resource = (namespace, "roles") if local else ("", "clusterroles")
            if self._store.get(ObjectKey(RBAC, resource, where, role["name"])) is None:
                found.append(f'{resource[:-1]}.{RBAC} "{role["name"]}" not found')
        return found

    def _token(self, spec: Object) -> Object:
        token = spec.get("token", "")
        if not token:
            raise BadRequest("token is required for TokenReview in authentication")
        try:
            identity = self._tokens.review(token, list(spec.get("audiences") or ()))
        except CertificateError as error:
            return {"user": {}, "error": str(error)}
        user = {
            "username": identity.user,
            "uid": identity.uid,
            "groups": list(identity.groups),
            "extra": identity.extra,
        }
        return {"authenticated": True, "user": user, "audiences": list(identity.audiences)}


def _check(kind: Kind, body: Object) -> None:
    problems = Problems()
    reviews.validate(kind.kind, body, problems)
    problems.raise_for(kind.group, kind.kind, "")


def _is_for(binding: Object, user: User) -> bool:
    for subject in binding.get("subjects") or ():
        name = subject.get("name", "")
        match subject.get("kind"):
            case "Group" if name in user.groups:
                return True
            case "User" if name == user.name:
                return True
            case "ServiceAccount":
                namespace = subject.get("namespace") or binding["metadata"].get("namespace", "")
                if user.name == f"{PREFIX}{namespace}:{name}":
                    return True
    return False
