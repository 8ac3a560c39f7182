# SPDX-License-Identifier: Apache-2.0
"""Paths and errors of the API client."""

from __future__ import annotations

import pytest

from kedge import errors
from kedge.api.keys import ObjectKey
from kedge.kube.client import path_of, refusal


@pytest.mark.parametrize(
    ("key", "subresource", "path"),
    [
        (ObjectKey("", "nodes", "", "n"), "", "/api/v1/nodes/n"),
        (ObjectKey("", "pods", "d", "p"), "status", "/api/v1/namespaces/d/pods/p/status"),
        (ObjectKey("", "pods", "d", ""), "", "/api/v1/namespaces/d/pods"),
        (ObjectKey("", "namespaces", "", "d"), "", "/api/v1/namespaces/d"),
        (
            ObjectKey("apps", "deployments", "d", "x"),
            "",
            "/apis/apps/v1/namespaces/d/deployments/x",
        ),
        (ObjectKey("", "pods", "d", "a/../b"), "", "/api/v1/namespaces/d/pods/a%2F..%2Fb"),
    ],
)
def test_a_key_leads_to_its_path(key: ObjectKey, subresource: str, path: str) -> None:
    assert path_of(key, subresource) == path


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (404, "NotFound", errors.NotFound),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (410, "Expired", errors.Gone),
        (410, "Gone", errors.Gone),
        (409, "", errors.Conflict),
        (500, "", errors.ApiError),
        (422, "Invalid", errors.Invalid),
        (429, None, errors.TooManyRequests),
        (503, "ServiceUnavailable", errors.ApiError),
    ],
)
def test_a_refusal_is_raised_by_its_reason_else_by_its_code(
    status: int, reason: str | None, kind: type[errors.ApiError]
) -> None:
    error = refusal(status, {"reason": reason, "message": "m", "details": {"name": "a"}})
    assert type(error) is kind
    assert (error.message, error.details) == ("m", {"name": "a"})


def test_an_answer_without_a_status_still_says_something() -> None:
    assert str(refusal(502, {})) == "the API server answers 502"
