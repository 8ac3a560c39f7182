# SPDX-License-Identifier: Apache-2.0
"""Every exception that kedge raises on purpose.

One root, a branch per domain, a leaf only where someone catches it. ``reason`` is the CamelCase
word shown in Events, conditions and API ``Status`` objects; ``retryable`` is read by
``kedge.aio.Backoff`` alone. The Rust extension raises these same classes.
"""

from __future__ import annotations

from typing import ClassVar


class KedgeError(Exception):
    """The root; raised itself only for a defect of ours."""

    reason: ClassVar[str] = "Internal"
    retryable: ClassVar[bool] = False


class Closed(KedgeError):
    """The handle was closed before or during the call."""

    reason = "Closed"


class ConfigError(KedgeError):
    """A setting is wrong; the message names file, key, what was there and what was wanted."""

    reason = "InvalidConfiguration"


class MissingExtra(KedgeError):
    """An optional feature was used whose extra is not installed."""

    reason = "MissingExtra"


class DeadlineExceeded(KedgeError):
    """No answer within the time allowed."""

    reason = "DeadlineExceeded"
    retryable = True


class StoreError(KedgeError):
    """The object store could not do its work."""

    reason = "StoreError"


class Corrupt(StoreError):
    """Stored bytes fail their checks; the store must be set aside or restored."""

    reason = "StoreCorrupt"


class Full(StoreError):
    """The disk or a quota is full; nothing acknowledged is lost, and writes go on when there is room."""

    reason = "StoreFull"
    retryable = True


class ApiError(KedgeError):
    """An API request that fails; carries what a Kubernetes ``Status`` needs.

    Args:
        message: for a person.
        details: the ``Status.details`` object, when there is one.
    """

    reason = "InternalError"
    code: ClassVar[int] = 500

    def __init__(self, message: str = "", details: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Unexplained(ApiError):
    """A failure for which Kubernetes has no reason, only a message."""

    reason = ""


class InsufficientStorage(ApiError):
    """The server's disk is full; reads go on, and writes when there is room."""

    code = 507


class BadRequest(ApiError):
    """The request cannot be read."""

    reason = "BadRequest"
    code = 400


class Unauthorized(ApiError):
    """Nobody known asks."""

    reason = "Unauthorized"
    code = 401


class Forbidden(ApiError):
    """Somebody known asks for what they may not have."""

    reason = "Forbidden"
    code = 403


class NotFound(ApiError):
    """The object or path is not there."""

    reason = "NotFound"
    code = 404


class MethodNotAllowed(ApiError):
    """The resource does not have that verb."""

    reason = "MethodNotAllowed"
    code = 405


class NotAcceptable(ApiError):
    """No representation that the client accepts."""

    reason = "NotAcceptable"
    code = 406


class Conflict(ApiError):
    """Somebody changed the object meanwhile."""

    reason = "Conflict"
    code = 409
    retryable = True


class AlreadyExists(ApiError):
    """A create of something that exists."""

    reason = "AlreadyExists"
    code = 409


class Gone(ApiError):
    """The revision asked for is older than the history kept."""

    reason = "Expired"
    code = 410


class TooLarge(ApiError):
    """Over a limit of size or count."""

    reason = "RequestEntityTooLarge"
    code = 413


class UnsupportedMediaType(ApiError):
    """A body in a format that is not served."""

    reason = "UnsupportedMediaType"
    code = 415


class Invalid(ApiError):
    """Well-formed but against a rule; the message names the field, what it was and what was wanted."""

    reason = "Invalid"
    code = 422


class TooManyRequests(ApiError):
    """Come back later."""

    reason = "TooManyRequests"
    code = 429
    retryable = True


class HubError(KedgeError):
    """The link between cloud and edge."""

    reason = "LinkError"


class Disconnected(HubError):
    """The link or the peer is away."""

    reason = "Disconnected"
    retryable = True


class Rejected(HubError):
    """The peer refused; trying the same again does not help."""

    reason = "Rejected"


class CertificateError(HubError):
    """A certificate or token does not hold."""

    reason = "CertificateError"


class JoinError(HubError):
    """A node cannot join; the message is one line with the cause, ``hint`` the fix."""

    reason = "JoinFailed"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class RuntimeFailure(KedgeError):
    """The container runtime refused or failed."""

    reason = "RuntimeError"
    retryable = True


class NoScale(KedgeError):
    """Nothing says how many pods there should be: what controls a pod is of a kind without replicas."""

    reason = "NoScale"
