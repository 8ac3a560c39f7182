# SPDX-License-Identifier: Apache-2.0
"""Server-side apply: a configuration read, merged into what is stored, or stored as a new object."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from kedge.cluster.apiserver import bodies, failures, managing
from kedge.cluster.apiserver.writes import Expected
from kedge.errors import AlreadyExists, BadRequest, NotFound

if TYPE_CHECKING:
    from kedge.api.keys import ObjectKey
    from kedge.api.kinds import Kind
    from kedge.cluster.apiserver.bodies import WriteOptions
    from kedge.cluster.apiserver.writes import Writes

Object = dict[str, Any]

MAX_ATTEMPTS = 8
"""How often an apply is begun again when the object came or went meanwhile."""
IN_PLACE_BYTES = 16 * 1024
"""YAML longer than this is read beside the loop."""


async def read(body: bytes, options: WriteOptions) -> Object:
    """The configuration in a request: JSON, or any YAML.

    Raises:
        BadRequest: it is neither, or not one object.
    """
    try:
        config = orjson.loads(body)
    except orjson.JSONDecodeError:
        from kedge.cluster.apiserver import yaml_bodies  # noqa: PLC0415 - few clients send YAML

        if len(body) > IN_PLACE_BYTES:
            config, twice = await asyncio.to_thread(yaml_bodies.load, body)
        else:
            config, twice = yaml_bodies.load(body)
    else:
        twice = bodies.duplicates(body, config, options)
    if twice and options.strict == "Strict":
        raise BadRequest(f"error strict decoding YAML: {', '.join(twice)}")
    if options.strict == "Warn":
        options.warnings.extend(twice)
    if type(config) is not dict:
        raise BadRequest(f"error decoding YAML: wanted an object, got: {type(config).__name__}")
    return config


async def apply(
    writes: Writes,
    kind: Kind,
    key: ObjectKey,
    config: Object,
    options: WriteOptions,
    *,
    subresource: str = "",
) -> tuple[Object, bool]:
    """Applies a configuration; the object, and whether it is new.

    Raises:
        Conflict: others own what would change.
        NotFound: there is no such object, and a subresource does not make one.
    """
    managing.check_config(kind, config)
    body = orjson.dumps(config)

    def change(live: Object) -> Object:
        fresh: Object = orjson.loads(body)
        metadata = live["metadata"]
        version, uid = metadata["resourceVersion"], metadata.get("uid", "")
        new = managing.applied(kind, live, fresh, options, subresource)
        new = _complete(kind, key, new, options)
        bodies.check_version(kind, key, new["metadata"], version)
        Expected(new["metadata"].get("uid") or "").check(kind, key, {"uid": uid})
        return new

    for _ in range(MAX_ATTEMPTS):
        try:
            changed = await writes.modify(
                kind, key, change, Expected(), options, subresource=subresource, owned=True
            )
        except NotFound:
            if subresource or writes.exists(key):
                raise
        else:
            return changed, False
        try:
            return await _create(writes, kind, key, orjson.loads(body), options), True
        except AlreadyExists:
            if options.dry_run:
                raise
    raise failures.conflict(kind, key.name)


async def _create(
    writes: Writes, kind: Kind, key: ObjectKey, config: Object, options: WriteOptions
) -> Object:
    writes.check_create(kind, key, options)
    new = _complete(kind, key, managing.applied(kind, {}, config, options, ""), options)
    uid = new["metadata"].pop("uid", "")
    if uid:
        why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise failures.conflict(kind, key.name, why)
    new["metadata"].pop("resourceVersion", None)
    return await writes.create(kind, new, options, first=True, owned=True)


def _complete(kind: Kind, key: ObjectKey, merged: Object, options: WriteOptions) -> Object:
    """What was merged, as an object of the kind at its place."""
    new = bodies.typed(kind, merged)
    bodies.decode(kind, new, options)
    metadata = bodies.metadata_of(new)
    named = metadata.get("name")
    bodies.place(kind, key, metadata)
    if named and named != key.name:
        message = (
            f"the name of the object ({named}) does not match the name on the URL ({key.name})"
        )
        raise BadRequest(message)
    if not named:
        del metadata["name"]
    return new


def scale_config(kind: Kind, config: Object) -> Object:
    """What a configuration of a ``Scale`` says of the object that it scales.

    Raises:
        BadRequest: it is no Scale.
        Conflict: it is for another version.
    """
    if (config.get("apiVersion"), config.get("kind")) != ("autoscaling/v1", "Scale"):
        got = f"{config.get('apiVersion')} {config.get('kind')}"
        raise BadRequest(f"invalid object type: wanted autoscaling/v1 Scale, got: {got}")
    spec = config.get("spec")
    if spec is not None and type(spec) is not dict:
        raise BadRequest("spec: wanted an object")
    result: Object = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}}
    metadata = config.get("metadata")
    if type(metadata) is dict:
        kept = ("name", "namespace", "resourceVersion", "managedFields")
        result["metadata"] = {name: metadata[name] for name in kept if name in metadata}
    if spec and "replicas" in spec:
        result["spec"] = {"replicas": spec["replicas"]}
    return result
