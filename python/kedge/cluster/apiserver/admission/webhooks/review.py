# SPDX-License-Identifier: Apache-2.0
"""AdmissionReviews: what a webhook is asked, and what its answer means. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from kedge.api.validation.webhooks import VERSIONS
from kedge.cluster.apiserver.subresources import scale_of
from kedge.errors import Forbidden

if TYPE_CHECKING:
    from kedge.cluster.apiserver.admission.webhooks.hooks import Hook
    from kedge.cluster.apiserver.admission.write import Write

Object = dict[str, Any]

GROUP = "admission.k8s.io"
MAX_WARNINGS, MAX_WARNING = 20, 1000
_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}
_OWN_KINDS = {
    "binding": ("", "v1", "Binding"),
    "eviction": ("policy", "v1", "Eviction"),
    "scale": ("autoscaling", "v1", "Scale"),
}
"""Subresources that are written as another kind."""
_SELF = ("system:kube-controller-manager", ("system:authenticated",))
"""Who writes what nobody asked for through the API: the cluster's own controllers."""


class CallFailed(Exception):  # noqa: N818 - a webhook could not be asked
    """Why there is no answer that means something."""


class Denied(Forbidden):
    """A webhook's refusal, with the code and reason that it chose."""

    def __init__(self, message: str, status: Object, code: int) -> None:
        super().__init__(message, status.get("details"))
        self.__dict__["code"] = code
        self.__dict__["reason"] = status.get("reason") or ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer that was understood.

    Attributes:
        allowed: whether the write may be.
        patch: what to change first, as a JSON patch; empty for nothing.
        warnings: for the client.
        status: why not.
    """

    allowed: bool
    patch: bytes
    warnings: tuple[str, ...]
    status: Object


def version_for(hook: Hook) -> str:
    """The first version of AdmissionReview that both know.

    Raises:
        CallFailed: there is none.
    """
    known = hook.spec.get("admissionReviewVersions") or ()
    for version in known:
        if version in VERSIONS:
            return str(version)
    raise CallFailed(
        f"webhook does not accept known AdmissionReview versions ({', '.join(VERSIONS)})"
    )


def shown(write: Write, obj: Object) -> Object | None:
    """The object of a write as webhooks see it; a subresource may have a kind of its own."""
    if not obj:
        return None
    if write.subresource == "scale":
        return scale_of(obj)
    if write.subresource in _OWN_KINDS:
        group, version, kind = _OWN_KINDS[write.subresource]
        return {"kind": kind, "apiVersion": f"{group}/{version}" if group else version, **obj}
    return obj


def request(write: Write, uid: str, version: str) -> bytes:
    """The question.

    Args:
        write: what is asked about.
        uid: which an answer repeats.
        version: of AdmissionReview.
    """
    about = write.kind
    usual = (about.group, about.version, about.kind)
    group, named, kind = _OWN_KINDS.get(write.subresource, usual)
    gvk = {"group": group, "version": named, "kind": kind}
    gvr = {"group": about.group, "version": about.version, "resource": about.resource}
    user = write.options.user
    name, groups = (user.name, user.groups) if user is not None else _SELF
    asked: Object = {
        "uid": uid,
        "kind": gvk,
        "resource": gvr,
        "requestKind": gvk,
        "requestResource": gvr,
        "name": write.key.name,
        "operation": write.operation,
        "userInfo": {"username": name, "groups": list(groups)},
        "object": shown(write, write.obj),
        "oldObject": shown(write, write.old),
        "dryRun": write.options.dry_run,
        "options": {"kind": _OPTIONS[write.operation], "apiVersion": "meta.k8s.io/v1"},
    }
    if write.subresource:
        asked["subResource"] = asked["requestSubResource"] = write.subresource
    if about.namespaced:
        asked["namespace"] = write.key.namespace
    elif about.resource == "namespaces" and not about.group:
        asked["namespace"] = write.key.name
    review = {"kind": "AdmissionReview", "apiVersion": f"{GROUP}/{version}", "request": asked}
    return orjson.dumps(review)


def verdict(body: bytes, uid: str, version: str, *, mutating: bool) -> Verdict:
    """The answer, checked.

    Raises:
        CallFailed: it is not one to that question.
    """
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise CallFailed(f"received invalid webhook response: {error}") from error
    response = review.get("response") if type(review) is dict else None
    if type(response) is not dict:
        raise _invalid("webhook response was absent")
    if version == "v1":
        got = (review.get("apiVersion"), review.get("kind"))
        if got != (f"{GROUP}/v1", "AdmissionReview"):
            wanted = f"{GROUP}/v1, Kind=AdmissionReview"
            given = f"{str(got[0] or '')[:100]}, Kind={str(got[1] or '')[:100]}"
            raise _invalid(f"expected webhook response of {wanted}, got {given}")
        if response.get("uid") != uid:
            given = str(response.get("uid", ""))[:100]
            raise _invalid(f'expected response.uid="{uid}", got "{given}"')
    status, warnings = response.get("status") or {}, response.get("warnings") or ()
    if type(response.get("allowed")) is not bool or type(status) is not dict:
        raise _invalid("response.allowed or response.status is of a wrong type")
    if not isinstance(warnings, list | tuple):
        raise _invalid("response.warnings is of a wrong type")
    texts = tuple(str(one)[:MAX_WARNING] for one in warnings[:MAX_WARNINGS])
    return Verdict(response["allowed"], _patch(response, mutating=mutating), texts, status)


def _patch(response: Object, *, mutating: bool) -> bytes:
    patch, kind = response.get("patch"), response.get("patchType")
    if not mutating:
        for field in ("patch", "patchType"):
            if response.get(field):
                raise _invalid(f"validating webhook may not return response.{field}")
        return b""
    if not patch:
        if kind:
            raise _invalid("webhook returned response.patchType but not response.patch")
        return b""
    if not kind:
        raise _invalid("webhook returned response.patch but not response.patchType")
    if kind != "JSONPatch":
        raise _invalid(f'webhook returned invalid response.patchType of "{str(kind)[:100]}"')
    try:
        return base64.b64decode(patch, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise _invalid(f"response.patch: {error}") from error


def _invalid(why: str) -> CallFailed:
    return CallFailed(f"received invalid webhook response: {why}")


def refusal(hook: Hook, status: Object) -> Denied:
    """What a client hears of a refusal."""
    said = status.get("message") or status.get("reason")
    denied = f'admission webhook "{hook.name}" denied the request'
    message = f"{denied}: {said}" if said else f"{denied} without explanation"
    code = status.get("code")
    fits = type(code) is int and 400 <= code <= 599
    details = status.get("details")
    kept = {**status, "details": details if type(details) is dict else None}
    kept["reason"] = str(status.get("reason") or "")
    return Denied(message, kept, code if fits and type(code) is int else 400)
