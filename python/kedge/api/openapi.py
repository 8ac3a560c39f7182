# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI documents: version 2 for all, version 3 per group, made when they are wanted.

Types come from ``generated/definitions.json``, paths from ``KINDS``. The documents are large as
dicts and small as bytes: make one, write it, let it go. Pure.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from kedge.api.discovery import groups
from kedge.api.kinds import KINDS, REVIEWS, Kind, Subresource
from kedge.api.patches import ACCEPTED, APPLY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Object = dict[str, Any]

VERSION = "v1.36.0"
STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
PATCH = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_JSON = "application/json"
_EVERY_GROUP = (META + "DeleteOptions", META + "WatchEvent")
"""Definitions that carry every group and version served, for clients that look a type up by it."""
_PARAMETERS = {
    "authentication.k8s.io": "io.k8s.api.authentication.v1.",
    "autoscaling": "io.k8s.api.autoscaling.v1.",
    "policy": "io.k8s.api.policy.v1.",
    "": "io.k8s.api.core.v1.",
}
_METHODS = {
    "create": "post",
    "get": "get",
    "list": "get",
    "update": "put",
    "patch": "patch",
    "delete": "delete",
    "deletecollection": "delete",
}
_ACTIONS = {"create": "post", "update": "put"}
_QUERIES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "write": (
        ("dryRun", "string", "When present, indicates that modifications should not be persisted: All."),
        ("fieldManager", "string", "The name of the actor that makes the change."),
        ("fieldValidation", "string", "What to do with unknown or duplicate fields: Ignore, Warn or Strict."),
    ),
    "patch": (
        ("dryRun", "string", "When present, indicates that modifications should not be persisted: All."),
        ("fieldManager", "string", "The name of the actor that makes the change; required for apply."),
        ("fieldValidation", "string", "What to do with unknown or duplicate fields: Ignore, Warn or Strict."),
        ("force", "boolean", "Whether an apply takes fields that others own."),
    ),
    "list": (
        ("allowWatchBookmarks", "boolean", "Asks for watch events of type BOOKMARK."),
        ("continue", "string", "Where an earlier list that was limited goes on."),
        ("fieldSelector", "string", "Restricts the objects by their fields."),
        ("labelSelector", "string", "Restricts the objects by their labels."),
        ("limit", "integer", "The most objects in one answer."),
        ("resourceVersion", "string", "How recent the answer must be."),
        ("resourceVersionMatch", "string", "How resourceVersion is applied to a list."),
        ("sendInitialEvents", "boolean", "Starts a watch with the objects that are there."),
        ("timeoutSeconds", "integer", "How long a list or watch may last."),
        ("watch", "boolean", "Watches for changes instead of listing."),
    ),
    "delete": (
        ("dryRun", "string", "When present, indicates that modifications should not be persisted: All."),
        ("gracePeriodSeconds", "integer", "The time that the object has to end, in seconds."),
        ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
        ("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
    ),
}  # fmt: skip


def definitions() -> dict[str, Object]:
    """Every type by its full name, as OpenAPI v2 writes it."""
    source = files("kedge.api") / "generated" / "definitions.json"
    result: dict[str, Object] = json.loads(source.read_text(encoding="utf-8"))
    for name in _EVERY_GROUP:
        kind = name.rpartition(".")[2]
        rows = [{"group": group, "kind": kind, "version": version} for group, version in groups()]
        result[name]["x-kubernetes-group-version-kind"] = rows
    return result


def version_2() -> Object:
    """The OpenAPI v2 (Swagger) document."""
    paths: Object = {}
    for kind in (*KINDS, *REVIEWS):
        for path, parameters, operations in _paths(kind):
            item = paths.setdefault(
                path, {"parameters": [_path_parameter(name) for name in parameters]}
            )
            item.update({method: _operation_2(one) for method, one in operations.items()})
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "definitions": definitions(),
    }


def version_3_index(hashes: dict[str, str]) -> Object:
    """The list of OpenAPI v3 documents.

    Args:
        hashes: of each document, by its name such as ``apis/apps/v1``; clients cache by it.
    """
    return {
        "paths": {
            name: {"serverRelativeURL": f"/openapi/v3/{name}?hash={digest}"}
            for name, digest in hashes.items()
        }
    }


def version_3() -> Iterator[tuple[str, Object]]:
    """Each OpenAPI v3 document with its name, such as ``apis/apps/v1``."""
    schemas = {name: _schema_3(schema) for name, schema in definitions().items()}
    for kinds in groups().values():
        paths: Object = {}
        for kind in kinds:
            for path, parameters, operations in _paths(kind):
                shown = [_parameter_3(_path_parameter(name)) for name in parameters]
                item = paths.setdefault(path, {"parameters": shown})
                item.update({method: _operation_3(one) for method, one in operations.items()})
        used = _reachable(paths, schemas)
        yield (
            kinds[0].base[1:],
            {
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes", "version": VERSION},
                "paths": paths,
                "components": {"schemas": {name: schemas[name] for name in used}},
            },
        )


class _Operation:
    """One verb on one path, before it is written for a version of OpenAPI."""

    __slots__ = (
        "body",
        "consumes",
        "gvk",
        "identifier",
        "queries",
        "result",
        "status",
        "tag",
        "verb",
    )

    def __init__(self, kind: Kind, verb: str, one: Subresource | None, suffix: str) -> None:
        group, version, name = kind.group, kind.version, kind.kind
        definition = kind.definition
        if one is not None and one.kind:
            group, version, name = one.group, one.version, one.kind
            definition = _PARAMETERS[group] + name
        self.verb = verb
        self.gvk = {"group": group, "kind": name, "version": version}
        self.identifier = (
            f"{verb}{_camel(kind)}{suffix}{kind.kind}{one.name.capitalize() if one else ''}"
        )
        self.tag = _tag(kind)
        self.queries = {"create": "write", "update": "write", "patch": "patch", "list": "list"}.get(
            verb, ""
        )
        self.body, self.result, self.status = (
            definition,
            definition,
            201 if verb == "create" else 200,
        )
        self.consumes = [*ACCEPTED, APPLY] if verb == "patch" else ["*/*"]
        if verb == "list":
            self.body, self.result = "", definition + "List"
        elif verb == "get":
            self.body = ""
        elif verb == "patch":
            self.body = PATCH
        elif verb in ("delete", "deletecollection"):
            self.body, self.result, self.queries = DELETE_OPTIONS, STATUS, "delete"


def _paths(kind: Kind) -> Iterator[tuple[str, list[str], dict[str, _Operation]]]:
    where = f"{kind.base}/namespaces/{{namespace}}" if kind.namespaced else kind.base
    parameters = ["namespace"] if kind.namespaced else []
    suffix = "Namespaced" if kind.namespaced else ""
    if kind.namespaced and "list" in kind.verbs:
        yield (
            f"{kind.base}/{kind.resource}",
            [],
            {"get": _Operation(kind, "list", None, "ForAllNamespaces")},
        )
    collection = [verb for verb in ("list", "create", "deletecollection") if verb in kind.verbs]
    yield f"{where}/{kind.resource}", parameters, _operations(kind, collection, None, suffix)
    single = [verb for verb in ("get", "update", "patch", "delete") if verb in kind.verbs]
    if single:
        path = f"{where}/{kind.resource}/{{name}}"
        yield path, ["name", *parameters], _operations(kind, single, None, suffix)
        for one in kind.subresources:
            if one.is_passed_on:
                continue
            yield (
                f"{path}/{one.name}",
                ["name", *parameters],
                _operations(kind, one.verbs, one, suffix),
            )


def _operations(
    kind: Kind, verbs: Iterable[str], one: Subresource | None, suffix: str
) -> dict[str, _Operation]:
    return {_METHODS[verb]: _Operation(kind, verb, one, suffix) for verb in verbs}


def _camel(kind: Kind) -> str:
    group = kind.group.removesuffix(".k8s.io").split(".")[0] or "core"
    return group.capitalize() + kind.version.capitalize()


def _tag(kind: Kind) -> str:
    group = kind.group.removesuffix(".k8s.io").split(".")[0] or "core"
    return f"{group}_{kind.version}"


def _path_parameter(name: str) -> Object:
    described = {
        "name": "name of the object",
        "namespace": "object name and auth scope, such as for teams and projects",
    }
    return {
        "name": name,
        "in": "path",
        "required": True,
        "type": "string",
        "uniqueItems": True,
        "description": described[name],
    }


def _operation_2(one: _Operation) -> Object:
    parameters = [
        {"name": name, "in": "query", "type": kind, "uniqueItems": True, "description": text}
        for name, kind, text in _QUERIES.get(one.queries, ())
    ]
    if one.body:
        required = one.body != DELETE_OPTIONS
        parameters.insert(
            0,
            {"name": "body", "in": "body", "required": required, "schema": _reference_2(one.body)},
        )
    return {
        "description": _sentence(one),
        "consumes": one.consumes,
        "produces": [_JSON],
        "schemes": ["https"],
        "tags": [one.tag],
        "operationId": one.identifier,
        "parameters": parameters,
        "responses": {
            str(one.status): {"description": "OK", "schema": _reference_2(one.result)},
            "401": {"description": "Unauthorized"},
        },
        **_extensions(one),
    }


def _operation_3(one: _Operation) -> Object:
    queries = [
        _parameter_3(
            {"name": name, "in": "query", "type": kind, "uniqueItems": True, "description": text}
        )
        for name, kind, text in _QUERIES.get(one.queries, ())
    ]
    content = {_JSON: {"schema": _reference_3(one.result)}}
    operation: Object = {
        "tags": [one.tag],
        "description": _sentence(one),
        "operationId": one.identifier,
        "parameters": queries,
        "responses": {
            str(one.status): {"description": "OK", "content": content},
            "401": {"description": "Unauthorized"},
        },
        **_extensions(one),
    }
    if one.body:
        operation["requestBody"] = {
            "content": {kind: {"schema": _reference_3(one.body)} for kind in one.consumes}
        }
    return operation


def _sentence(one: _Operation) -> str:
    verb = {
        "deletecollection": "delete collection of",
        "get": "read the specified",
        "list": "list or watch objects of kind",
    }
    return f"{verb.get(one.verb, one.verb)} {one.gvk['kind']}"


def _extensions(one: _Operation) -> Object:
    return {
        "x-kubernetes-action": _ACTIONS.get(one.verb, one.verb),
        "x-kubernetes-group-version-kind": one.gvk,
    }


def _reference_2(name: str) -> Object:
    return {"$ref": f"#/definitions/{name}"}


def _reference_3(name: str) -> Object:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameter_3(parameter: Object) -> Object:
    result = {key: value for key, value in parameter.items() if key not in ("type", "uniqueItems")}
    return {**result, "schema": {"type": parameter["type"], "uniqueItems": True}}


def _schema_3(schema: Any) -> Any:
    """A v2 schema as v3 has it: references elsewhere, and wrapped where something stands beside them."""
    if isinstance(schema, list):
        return [_schema_3(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("$ref"), str):
        reference = _reference_3(schema["$ref"].rpartition("/")[2])
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return {"allOf": [reference], "default": {}, **rest} if rest else reference
    return {key: _schema_3(value) for key, value in schema.items()}


def _reachable(paths: Object, schemas: dict[str, Object]) -> list[str]:
    seen: set[str] = set()
    waiting = list(_references(paths))
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(_references(schemas[name]))
    return sorted(seen)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rpartition("/")[2]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
