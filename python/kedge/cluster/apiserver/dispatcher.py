# SPDX-License-Identifier: Apache-2.0
"""From a queued request to the registry and back.

Rust has authenticated and authorized the request and answers reads itself; what comes here is every
write, the ``scale`` of a workload, and reviews. Bodies are JSON or protobuf, answers JSON.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson

from kedge.api import patches, wire
from kedge.api.keys import ObjectKey
from kedge.api.kinds import REVIEWS, Kind, find
from kedge.cluster.apiserver import failures, managing
from kedge.cluster.apiserver.access import User
from kedge.cluster.apiserver.applying import read, scale_config
from kedge.cluster.apiserver.bodies import WriteOptions, duplicates, parse
from kedge.cluster.apiserver.deletion import DeleteOptions, is_dry_run
from kedge.cluster.apiserver.eviction import Evictions
from kedge.cluster.apiserver.managing import check_manager
from kedge.cluster.apiserver.server import JSON, Request, Response
from kedge.cluster.apiserver.subresources import scale_of
from kedge.errors import BadRequest, NotFound, UnsupportedMediaType

if TYPE_CHECKING:
    from kedge.cluster.apiserver.registry import Registry
    from kedge.cluster.apiserver.reviews import Reviews
    from kedge.cluster.apiserver.tokens import Tokens

Object = dict[str, Any]
Query = dict[str, str]

_STRICTNESS = ("Ignore", "Warn", "Strict")
_REVIEWS = frozenset((kind.group, kind.resource) for kind in REVIEWS if kind.kind != "Binding")
MAX_WARNINGS = 20


class Dispatcher:
    """Handles requests.

    Args:
        registry: the write path.
        tokens: makes ServiceAccount tokens.
        reviews: answers reviews.
    """

    def __init__(self, registry: Registry, tokens: Tokens, reviews: Reviews) -> None:
        self._registry = registry
        self._evictions = Evictions(registry)
        self._tokens = tokens
        self._reviews = reviews

    async def handle(self, request: Request) -> Response:
        """Decides one request.

        Raises:
            ApiError: the request is refused.
        """
        kind = find(request.group, request.resource)
        if kind is None or kind.version != request.version:
            raise NotFound("the server could not find the requested resource")
        query = dict(parse_qsl(request.query)) if request.query else {}
        if (request.group, request.resource) in _REVIEWS:
            return self._review(kind, request)
        return await self._route(kind, request, query)

    async def _route(self, kind: Kind, request: Request, query: Query) -> Response:
        key = ObjectKey(kind.group, kind.resource, request.namespace, request.name)
        if request.resource == "bindings":
            return await self._bind(request, query)
        if request.subresource:
            return await self._subresource(kind, key, request, query)
        match request.method:
            case "POST":
                return await self._create(kind, key, request, query)
            case "PUT":
                return await self._update(key, request, query)
            case "PATCH":
                return await self._patch(key, request, query)
            case "DELETE":
                return await self._delete(kind, key, request, query)
        raise failures.unsupported(kind, request.method.lower())

    async def _subresource(
        self, kind: Kind, key: ObjectKey, request: Request, query: Query
    ) -> Response:
        match request.subresource, request.method:
            case (
                ("approval" | "status" | "ephemeralcontainers" | "resize"),
                ("GET" | "PUT" | "PATCH"),
            ):
                return await self._part(key, request, query)
            case "finalize", "PUT":
                return await self._update(key, request, query)
            case "scale", ("GET" | "PUT" | "PATCH"):
                return await self._scale(kind, key, request, query)
            case "binding", "POST":
                return await self._bind(request, query)
            case "eviction", "POST":
                body, options = document(request), _options(request, query)
                await self._registry.show(key, "eviction", body, options)
                return answer(await self._evictions.evict(key, body, options), 201, options)
            case "token", "POST":
                body = document(request)
                return answer(self._tokens.request(key.namespace, key.name, body), 201)
        raise failures.unsupported(kind, request.method.lower())

    async def _part(self, key: ObjectKey, request: Request, query: Query) -> Response:
        """A subresource that is the object itself, of which only a part changes."""
        match request.method:
            case "GET":
                return answer(self._registry.get(key), 200)
            case "PUT":
                return await self._update(key, request, query)
        return await self._patch(key, request, query)

    async def _create(self, kind: Kind, key: ObjectKey, request: Request, query: Query) -> Response:
        if request.name:
            raise failures.unsupported(kind, "create on a named object")
        body, options = document(request), _options(request, query)
        _refuse_duplicates(request.body, body, options)
        return answer(await self._registry.create_owned(key, body, options), 201, options)

    async def _update(self, key: ObjectKey, request: Request, query: Query) -> Response:
        body, options = document(request), _options(request, query)
        _refuse_duplicates(request.body, body, options)
        result = await self._registry.update_owned(
            key, body, subresource=request.subresource, options=options
        )
        return answer(result, 200, options)

    async def _patch(self, key: ObjectKey, request: Request, query: Query) -> Response:
        content_type = media_type(request.content_type)
        options = _options(request, query)
        if content_type == patches.APPLY:
            config = await read(request.body, options)
            result, is_new = await self._registry.apply(
                key, config, subresource=request.subresource, options=options
            )
            return answer(result, 201 if is_new else 200, options)
        result = await self._registry.patch(
            key, request.body, content_type, subresource=request.subresource, options=options
        )
        return answer(result, 200, options)

    async def _delete(self, kind: Kind, key: ObjectKey, request: Request, query: Query) -> Response:
        options, how = _delete_options(request, query), _options(request, query)
        if not request.name:
            if "deletecollection" not in kind.verbs:
                raise failures.unsupported(kind, "deletecollection")
            await self._registry.delete_collection(
                kind.group,
                kind.resource,
                request.namespace,
                options,
                how,
                labels=query.get("labelSelector", ""),
                fields=query.get("fieldSelector", ""),
            )
            return answer(_success(), 200, how)
        obj, gone = await self._registry.remove(key, options, how)
        if not gone or (kind.resource == "pods" and not kind.group):
            return answer(obj, 200, how)
        details = failures.details(kind, key.name)
        return answer(_success({**details, "uid": obj["metadata"].get("uid", "")}), 200, how)

    async def _scale(self, kind: Kind, key: ObjectKey, request: Request, query: Query) -> Response:
        if request.method == "GET":
            return answer(scale_of(self._registry.get(key)), 200)
        options = _options(request, query)
        if media_type(request.content_type) == patches.APPLY:
            config = scale_config(kind, await read(request.body, options))
            scaled, _ = await self._registry.apply(
                key, config, subresource="scale", options=options
            )
            return answer(scale_of(scaled), 200, options)
        version = ""
        change: Callable[[Object], int]
        if request.method == "PUT":
            body = document(request)
            version = body.get("metadata", {}).get("resourceVersion", "")

            def change(_: Object) -> int:
                return _replicas(body)

        else:
            content_type = media_type(request.content_type)

            def change(obj: Object) -> int:
                patched = patches.apply(scale_of(obj), parse(request.body), content_type, None)
                return _replicas(patched)

        obj = await self._registry.scale(key, change, version, options)
        return answer(scale_of(obj), 200, options)

    async def _bind(self, request: Request, query: Query) -> Response:
        body = document(request)
        metadata, target = body.get("metadata", {}), body.get("target", {})
        node = target.get("name", "")
        if not node or target.get("kind", "Node") not in ("Node", ""):
            raise BadRequest("target.name: Required value: a binding names a node")
        await self._registry.bind(
            request.namespace,
            request.name or metadata.get("name", ""),
            node,
            uid=metadata.get("uid", ""),
            annotations=metadata.get("annotations"),
            options=_options(request, query),
        )
        return answer(_success(), 201)

    def _review(self, kind: Kind, request: Request) -> Response:
        if request.method != "POST":
            raise failures.unsupported(kind, request.method.lower())
        body = document(request)
        body = {**body, "kind": kind.kind, "apiVersion": kind.api_version}
        user = User(request.user, tuple(request.groups))
        return answer(self._reviews.answer(kind, request.namespace, body, user), 201)


Handler = Callable[[Request], Awaitable[Response]]


def document(request: Request) -> Object:
    """The request's body.

    Raises:
        BadRequest: it is not an object in that format.
        UnsupportedMediaType: it is neither JSON nor protobuf.
    """
    content_type = media_type(request.content_type)
    if content_type == wire.MEDIA_TYPE:
        return wire.decode(request.body)
    if content_type not in (JSON, ""):
        accepted = f"{JSON}, {wire.MEDIA_TYPE}"
        message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        raise UnsupportedMediaType(f"{message}, got: {content_type}")
    body = parse(request.body)
    if type(body) is not dict:
        raise BadRequest(f"the body of the request is not an object: {type(body).__name__}")
    return body


def media_type(header: str) -> str:
    """A media type without parameters."""
    return header.partition(";")[0].strip().lower()


def answer(obj: Object, status: int, options: WriteOptions | None = None) -> Response:
    """An object as a response, with the warnings that came up."""
    headers: tuple[tuple[str, str], ...] = ()
    if options is not None and options.warnings:
        headers = tuple(
            ("Warning", f"299 - {_quoted(text)}") for text in options.warnings[:MAX_WARNINGS]
        )
    return Response(status, orjson.dumps(obj), JSON, headers)


def _quoted(text: str) -> str:
    plain = "".join(mark if mark.isprintable() and mark.isascii() else "?" for mark in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"')[:1000] + '"'


def _success(details: Object | None = None) -> Object:
    status: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details is not None:
        status["details"] = details
    return status


def _options(request: Request, query: Query) -> WriteOptions:
    strict = query.get("fieldValidation") or "Warn"
    if strict not in _STRICTNESS:
        raise BadRequest(
            f"fieldValidation: Unsupported value: {strict!r}: supported values: {', '.join(_STRICTNESS)}"
        )
    user = User(request.user, tuple(request.groups))
    dry_run = is_dry_run(query.get("dryRun"))
    named = query.get("fieldManager") or ""
    force = query.get("force")
    if named or request.method == "PATCH":
        is_apply = media_type(request.content_type) == patches.APPLY
        check_manager(request.method, named, force, is_apply=is_apply)
    manager = managing.manager_name(named, request.agent)
    is_forced = force is not None and force.lower() not in ("false", "0")
    return WriteOptions(dry_run, strict, user, manager, is_forced, [])


def _refuse_duplicates(raw: bytes, body: Object, options: WriteOptions) -> None:
    if raw.startswith(wire.MAGIC):
        return
    texts = duplicates(raw, body, options)
    if texts and options.strict == "Strict":
        raise BadRequest(f"strict decoding error: {', '.join(texts)}")
    options.warnings.extend(texts)


def _delete_options(request: Request, query: Query) -> DeleteOptions:
    body = document(request) if request.body else {}
    if "gracePeriodSeconds" in query:
        try:
            body["gracePeriodSeconds"] = int(query["gracePeriodSeconds"])
        except ValueError:
            raise BadRequest(
                f"gracePeriodSeconds: wanted a number, got: {query['gracePeriodSeconds']!r}"
            ) from None
    for field in ("propagationPolicy", "dryRun"):
        if query.get(field):
            body.setdefault(field, query[field])
    if "orphanDependents" in query:
        body.setdefault("orphanDependents", query["orphanDependents"] == "true")
    return DeleteOptions.read(body)


def _replicas(scale: Object) -> int:
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if type(replicas) is not int:
        raise BadRequest(f"spec.replicas: wanted a number, got: {replicas!r}")
    return replicas
