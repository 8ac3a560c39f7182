# SPDX-License-Identifier: Apache-2.0
"""The face of the API server's HTTP side, which is in Rust.

Rust authenticates, authorizes, and answers reads, watches and documents by itself. What is left
arrives here as a ``Request``; ``Server.run`` hands each to the handler it was built with and sends
the ``Response`` back. A handler that fails answers with the ``Status`` of its ``ApiError``; any other
exception is a defect: it is logged and answered with 500.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kedge import _core  # noqa: TID251 - this file is the face of _core.ApiServer
from kedge.aio import batches
from kedge.errors import ApiError, Full, InsufficientStorage

if TYPE_CHECKING:
    from kedge.cluster.apiserver.access import About, User
    from kedge.hub.certificates import Pair
    from kedge.runtime import Runtime
    from kedge.store import Store

logger = logging.getLogger(__name__)

JSON = "application/json"

POLICY: tuple[dict[str, list[str]], ...] = (
    {"groups": ["system:masters"], "verbs": ["*"], "resources": ["*"], "urls": ["*"]},
    {
        "groups": ["kedge:cloud"],
        "verbs": ["get", "list", "watch"],
        "resources": [
            "clusterrolebindings.rbac.authorization.k8s.io",
            "clusterroles.rbac.authorization.k8s.io",
            "clustertrustbundles.certificates.k8s.io",
            "configmaps",
            "csidrivers.storage.k8s.io",
            "endpoints",
            "endpointslices.discovery.k8s.io",
            "events",
            "leases.coordination.k8s.io",
            "namespaces",
            "nodes",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "rolebindings.rbac.authorization.k8s.io",
            "roles.rbac.authorization.k8s.io",
            "runtimeclasses.node.k8s.io",
            "secrets",
            "serviceaccounts",
            "services",
            "volumeattachments.storage.k8s.io",
        ],
    },
    {
        "groups": ["kedge:cloud"],
        "verbs": ["create", "update", "patch"],
        "resources": [
            "csinodes.storage.k8s.io",
            "events",
            "leases.coordination.k8s.io",
            "nodes",
            "nodes/status",
            "persistentvolumeclaims/status",
            "pods/status",
        ],
    },
    # deleted are only those of nodes that ask for it themselves (kedge.cloud.leaving)
    {"groups": ["kedge:cloud"], "verbs": ["delete"], "resources": ["nodes"]},
    # created are only mirrors of nodes' static pods (kedge.cloud.mirror_pods)
    {"groups": ["kedge:cloud"], "verbs": ["create", "delete"], "resources": ["pods"]},
    {
        "groups": ["kedge:cloud"],
        "verbs": ["create"],
        "resources": ["namespaces", "serviceaccounts/token"],
    },
    {
        "groups": ["kedge:cloud"],
        "verbs": ["create", "update", "patch", "delete"],
        "resources": ["secrets"],
        "namespaces": ["kedge-system"],
    },
    {
        "groups": ["system:authenticated"],
        "verbs": ["create"],
        "resources": [
            "selfsubjectaccessreviews.authorization.k8s.io",
            "selfsubjectrulesreviews.authorization.k8s.io",
            "selfsubjectreviews.authentication.k8s.io",
        ],
    },
    {
        "groups": ["system:authenticated"],
        "urls": ["/api*", "/openapi*", "/openid*", "/.well-known/*", "/version*"],
    },
)
"""What kedge's own parts may do, beside what roles allow; the rows are ``kedge_core::kubeapi::policy``'s."""


class Request(NamedTuple):
    """What Python has to decide."""

    id: int
    method: str
    path: str
    group: str
    version: str
    resource: str
    namespace: str
    name: str
    subresource: str
    query: str
    user: str
    groups: list[str]
    content_type: str
    accept: str
    body: bytes
    agent: str = ""


class Response(NamedTuple):
    """What Python decided."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A bearer token and whom it stands for."""

    token: str = field(repr=False)
    user: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What the HTTP side needs to know.

    Attributes:
        listen: address and port; port 0 lets the system choose.
        certificate: PEM, the server's certificate first.
        key: PEM of its key.
        client_ca: PEM of the authority of client certificates.
        service_account_keys: PEM keys that ServiceAccount tokens are signed with.
        issuer: who must have issued them.
        audiences: one of these must be named in them; the issuer when empty.
        tokens: static bearer tokens.
        resources: rows with group, version, kind, resource, namespaced, verbs and subresources.
        policy: who may do what, whatever roles say.
        rbac: whether roles and bindings in the store are asked too.
        limits: overrides of ``kedge_core::kubeapi::config::Limits`` by name.
        version: what ``/version`` says.
        node_domain: requests to NODE.DOMAIN are for that node's kubelet; empty for none.
        audit: what is written down, as ``kedge_core::kubeapi::audit::Config``; none for nothing.
    """

    listen: str
    certificate: str
    key: str = field(repr=False)
    client_ca: str = ""
    service_account_keys: tuple[str, ...] = ()
    issuer: str = ""
    audiences: tuple[str, ...] = ()
    tokens: tuple[StaticToken, ...] = ()
    resources: Sequence[Mapping[str, Any]] = ()
    policy: Sequence[Mapping[str, Sequence[str]]] = POLICY
    rbac: bool = True
    limits: Mapping[str, float] = field(default_factory=dict)
    version: Mapping[str, str] | None = None
    node_domain: str = ""
    audit: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """The configuration as Rust reads it."""
        return json.dumps(asdict(self))


Handler = Callable[[Request], Awaitable[Response]]


class Server:
    """A listening API server; ``run`` is the component that answers what Python decides.

    Args:
        runtime: the process's runtime.
        store: what is served.
        config: see ``ServerConfig``.
        handle: decides one request; called concurrently.
    """

    def __init__(
        self, runtime: Runtime, store: Store, config: ServerConfig, handle: Handler
    ) -> None:
        self._server = _core.ApiServer(runtime, store.handle, config.to_json())
        self._handle = handle
        self._answers: list[tuple[int, int, str, bytes, Sequence[tuple[str, str]]]] = []

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    def set_document(self, path: str, media_type: str, body: bytes, etag: str = "") -> None:
        """Sets what GET of ``path`` answers to clients that accept ``media_type``."""
        self._server.set_document(path, media_type, body, etag)

    def expect_document(self, path: str) -> None:
        """Says that ``path`` will have a document: until then the answer is 503 with ``Retry-After``."""
        self._server.expect_document(path)

    def set_nodes(self, own: Pair, ca: str, server_name: str) -> None:
        """Reaches nodes with ``own`` from now on, through hubs with a certificate of ``ca``."""
        self._server.set_nodes(own.certificate, own.key, ca, server_name)

    def allows(self, user: User, verb: str, about: About) -> bool:
        """Whether a user may do something to a resource, as a request would hear."""
        return self._server.allows(user.name, list(user.groups), verb, about)

    def allows_url(self, user: User, verb: str, path: str) -> bool:
        """Whether a user may do something with a path that is no resource."""
        return self._server.allows_url(user.name, list(user.groups), verb, path)

    def lacks(self, user: User, namespace: str, rules: Sequence[Mapping[str, Any]]) -> list[str]:
        """What of some rules a user does not have."""
        return self._server.lacks(user.name, list(user.groups), namespace, json.dumps(rules))

    def rules(self, user: User, namespace: str) -> dict[str, Any]:
        """What a user may do in a namespace, as the status of a SelfSubjectRulesReview."""
        found: dict[str, Any] = json.loads(
            self._server.rules(user.name, list(user.groups), namespace)
        )
        return found

    def set_ready(self, *, ready: bool) -> None:
        """Sets what ``/readyz`` says; it begins with ready."""
        self._server.set_ready(ready)

    async def run(self) -> None:
        """Answers requests until cancelled."""
        async with asyncio.TaskGroup() as group:
            async for batch in batches(self._server):
                for row in batch:
                    group.create_task(self._answer(Request(*row)))

    async def _answer(self, request: Request) -> None:
        try:
            response = await self._handle(request)
        except ApiError as error:
            response = failure(error)
        except Full as error:
            logger.error("%s %s: %s", request.method, request.path, error)  # noqa: TRY400 - no defect
            response = failure(InsufficientStorage(f"the write was not made: {error}"))
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            response = failure(ApiError("the request failed inside the server"))
        status, body, content_type, headers = response
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._flush)
        self._answers.append((request.id, status, content_type, body, headers))

    def _flush(self) -> None:
        """Sends what was decided in one turn of the loop together: each call may wake a thread."""
        answers, self._answers = self._answers, []
        self._server.respond(answers)

    def close(self) -> None:
        """Stops listening, ends watches, and lets answers under way finish."""
        self._server.close()


def failure(error: ApiError) -> Response:
    """The ``Status`` answer of an error."""
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.message,
    }
    if error.reason:
        status["reason"] = error.reason
    if error.details is not None:
        status["details"] = error.details
    status["code"] = error.code
    wait = (error.details or {}).get("retryAfterSeconds", 0 if error.details else 1)
    headers = [("Retry-After", str(wait))] if error.code == 429 and wait else []
    return Response(error.code, json.dumps(status).encode(), JSON, headers)
