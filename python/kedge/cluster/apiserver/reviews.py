# SPDX-License-Identifier: Apache-2.0
"""Documents that are posted to ask something: who am I, may I, is this token good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.cluster.apiserver import policy
from kedge.errors import BadRequest, CertificateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.cluster.apiserver.tokens import Tokens

Object = dict[str, Any]


class Reviews:
    """Answers reviews.

    Args:
        tokens: who knows tokens.
        rows: the policy.
    """

    def __init__(self, tokens: Tokens, rows: policy.Policy) -> None:
        self._tokens = tokens
        self._rows = rows

    def answer(self, kind: str, body: Object, user: str, groups: Sequence[str]) -> Object:
        """Fills in the status of a review."""
        match kind:
            case "SelfSubjectReview":
                status: Object = {"userInfo": {"username": user, "groups": list(groups)}}
            case "SelfSubjectAccessReview":
                status = self._access(body.get("spec", {}), groups)
            case "TokenReview":
                status = self._token(body.get("spec", {}))
            case _:
                raise BadRequest(f"not a review: {kind}")
        body.setdefault("metadata", {})
        body["status"] = status
        return body

    def _access(self, spec: Object, groups: Sequence[str]) -> Object:
        resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if (resource is None) == (path is None):
            raise BadRequest(
                "spec: exactly one of nonResourceAttributes or resourceAttributes must be specified"
            )
        if resource is None:
            allowed = policy.allows_path(self._rows, groups, (path or {}).get("path", ""))
            return {"allowed": allowed}
        group = resource.get("group", "")
        name = f"{resource.get('resource', '')}.{group}" if group else resource.get("resource", "")
        if resource.get("subresource"):
            name = f"{name}/{resource['subresource']}"
        return {
            "allowed": policy.allows(
                self._rows, groups, resource.get("verb", ""), name, resource.get("namespace", "")
            )
        }

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
