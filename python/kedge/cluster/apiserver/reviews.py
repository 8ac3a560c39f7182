# SPDX-License-Identifier: Apache-2.0
"""Documents that are posted to ask something: who am I, may I, is this token good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.cluster.apiserver.access import About, User
from kedge.errors import BadRequest, CertificateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.cluster.apiserver.access import Access
    from kedge.cluster.apiserver.tokens import Tokens

Object = dict[str, Any]


class Reviews:
    """Answers reviews.

    Args:
        tokens: who knows tokens.
        access: who knows who may do what.
    """

    def __init__(self, tokens: Tokens, access: Access) -> None:
        self._tokens = tokens
        self._access_of = access

    def answer(self, kind: str, body: Object, user: str, groups: Sequence[str]) -> Object:
        """Fills in the status of a review."""
        match kind:
            case "SelfSubjectReview":
                status: Object = {"userInfo": {"username": user, "groups": list(groups)}}
            case "SelfSubjectAccessReview":
                status = self._access(body.get("spec", {}), User(user, tuple(groups)))
            case "SelfSubjectRulesReview":
                status = self._rules(body.get("spec", {}), User(user, tuple(groups)))
            case "SubjectAccessReview":
                status = self._access_of_other(body.get("spec", {}))
            case "TokenReview":
                status = self._token(body.get("spec", {}))
            case _:
                raise BadRequest(f"not a review: {kind}")
        body.setdefault("metadata", {})
        body["status"] = status
        return body

    def _access_of_other(self, spec: Object) -> Object:
        name, groups = spec.get("user", ""), spec.get("groups") or ()
        if not name and not groups:
            raise BadRequest("spec: at least one of user or group must be specified")
        return self._access(spec, User(name, tuple(groups)))

    def _access(self, spec: Object, user: User) -> Object:
        resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if (resource is None) == (path is None):
            raise BadRequest(
                "spec: exactly one of nonResourceAttributes or resourceAttributes must be specified"
            )
        if resource is None:
            asked: Object = path or {}
            verb, where = asked.get("verb", ""), asked.get("path", "")
            return {"allowed": self._access_of.allows_url(user, verb, where)}
        about = About(*(resource.get(field, "") for field in About._fields))
        return {"allowed": self._access_of.allows(user, resource.get("verb", ""), about)}

    def _rules(self, spec: Object, user: User) -> Object:
        namespace = spec.get("namespace", "")
        if not namespace:
            raise BadRequest("spec.namespace: Required value")
        return self._access_of.rules(user, namespace)

    def _token(self, spec: Object) -> Object:
        token = spec.get("token", "")
        if not token:
            raise BadRequest("spec.token: Required value")
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
