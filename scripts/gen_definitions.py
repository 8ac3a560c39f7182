# SPDX-License-Identifier: Apache-2.0
"""Writes what the API server knows of Kubernetes' types into ``python/kedge/api/generated``.

The source is the OpenAPI of Kubernetes 1.36 as the package ``kubernetes-validate`` carries it. Three
files come out, one definition a line, so that a new version shows as a readable difference:

* ``schema.json``: fields and their types, merge keys and strategies; read at start.
* ``definitions.json``: the same with descriptions, as OpenAPI wants them; read to build documents.
* ``structure.json``: what structured merge has to know beside the types, read by ``kedge.api.structured``.
  It needs ``wire.json``, which says what is no pointer in Go: run ``wire_types`` first.

Only definitions that the kinds of ``kedge.api.kinds`` reach are kept. Run it after changing that
table: ``python scripts/gen_definitions.py``.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge.api.kinds import KINDS, PARAMETERS, REVIEWS

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "v1.36.0-local"
OUT = Path(__file__).resolve().parent.parent / "python/kedge/api/generated"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
ALSO = (
    "Status",
    "DeleteOptions",
    "APIResourceList",
    "APIGroupList",
    "APIGroup",
    "APIVersions",
    "Patch",
    "WatchEvent",
    "LabelSelector",
)
SCALARS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    META + "Time": "time",
    META + "MicroTime": "time",
    META + "FieldsV1": "any",
    META + "Patch": "any",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
}
OPENAPI_SCALARS = {
    "quantity": {"type": "string"},
    "int-or-string": {"type": "string", "format": "int-or-string"},
    "time": {"type": "string", "format": "date-time"},
    "any": {"type": "object"},
}


def main() -> None:
    """Reads the package's definitions and writes both files."""
    source = files("kubernetes_validate") / "kubernetes-json-schema" / VERSION / "_definitions.json"
    definitions = json.loads(source.read_text(encoding="utf-8"))["$defs"]
    wanted = reachable(definitions)
    write(
        "schema.json",
        {short(name): fields(definitions[name]) for name in wanted if name not in SCALARS},
    )
    write("definitions.json", {name: plain(name, definitions[name]) for name in wanted})
    structures = {short(name): structure(name, definitions[name]) for name in wanted}
    write("structure.json", {name: found for name, found in structures.items() if found})


def roots(definitions: dict[str, Any]) -> Iterator[str]:
    """The names of the definitions to start from."""
    for kind in (*KINDS, *REVIEWS):
        yield kind.definition
        if kind.definition + "List" in definitions:
            yield kind.definition + "List"
    yield from PARAMETERS
    yield from (META + name for name in ALSO)


def reachable(definitions: dict[str, Any]) -> list[str]:
    """All definitions that the roots refer to, sorted."""
    seen: set[str] = set()
    waiting = list(roots(definitions))
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(references(definitions[name]))
    return sorted(seen)


def references(value: Any) -> Iterator[str]:
    """The definitions that a schema names."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rsplit("/", 1)[1]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def short(name: str) -> str:
    """``io.k8s.api.core.v1.Pod`` becomes ``core.v1.Pod``."""
    return name.removeprefix("io.k8s.api.").removeprefix("io.k8s.apimachinery.pkg.apis.")


def fields(definition: dict[str, Any]) -> dict[str, Any]:
    """Field name to its type, or to ``[type, strategies, merge key]`` where lists or maps merge."""
    result: dict[str, Any] = {}
    for name, schema in definition.get("properties", {}).items():
        kind = type_of(schema)
        strategy = schema.get("x-kubernetes-patch-strategy")
        key = schema.get("x-kubernetes-patch-merge-key", "")
        result[name] = [kind, strategy, key] if strategy else kind
    return result


def type_of(schema: dict[str, Any]) -> str:
    """A type as Go would write it: ``[]core.v1.Container``, ``map[string]quantity``."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return SCALARS.get(name) or short(name)
    kind = bare(schema.get("type", "any"))
    if kind == "array":
        return "[]" + type_of(schema["items"])
    if kind == "object":
        inner = schema.get("additionalProperties")
        return "map[string]" + type_of(inner) if inner else "any"
    return "bytes" if schema.get("format") == "byte" else kind


def bare(kind: Any) -> str:
    """The type without the ``null`` that the package adds."""
    return next(name for name in kind if name != "null") if isinstance(kind, list) else str(kind)


KEY_DEFAULTS = {
    ("core.v1.ContainerPort", "protocol"): "TCP",
    ("core.v1.LocalObjectReference", "name"): "",
    ("core.v1.ServicePort", "protocol"): "TCP",
}
"""Defaults of fields that are keys of lists; the package leaves defaults out."""


def structure(name: str, definition: dict[str, Any]) -> dict[str, str]:
    """How fields merge, by name, where it is not as for every list (atomic), struct and map (granular).

    The words are ``atomic``, ``granular``, ``set`` and ``keys=NAME,NAME:DEFAULT``; ``always`` says that Go's
    empty value has the field. The definition itself has an empty name.
    """
    result: dict[str, str] = {}
    if definition.get("x-kubernetes-map-type") == "atomic":
        result[""] = "atomic"
    required = definition.get("required", ())
    values = go_values().get(short(name), {})
    for field, schema in definition.get("properties", {}).items():
        words = []
        kind = type_of(schema)
        if kind.startswith(("[]", "map[")):
            always = field in required
        else:
            always = (
                "$ref" in schema
                and kind not in SCALARS.values()
                and values.get(field, field in required)
            )
        if always:
            words.append("always")
        if schema.get("x-kubernetes-list-type") == "set":
            words.append("set")
        elif schema.get("x-kubernetes-list-type") == "map":
            item = schema["items"]["$ref"].rsplit("/", 1)[1]
            words.append(
                "keys="
                + ",".join(key_of(item, key) for key in schema["x-kubernetes-list-map-keys"])
            )
        elif "x-kubernetes-map-type" in schema:
            words.append(schema["x-kubernetes-map-type"])
        if words:
            result[field] = " ".join(words)
    return result


def key_of(item: str, key: str) -> str:
    """A key of a list, with its default."""
    default = KEY_DEFAULTS.get((short(item), key))
    return key if default is None else f"{key}:{default}"


@cache
def go_values() -> dict[str, dict[str, bool]]:
    """For each type, whether a field is a value in Go and not a pointer to one."""
    rows: dict[str, dict[str, list[str]]] = json.loads(
        (OUT / "wire.json").read_text(encoding="utf-8")
    )
    return {
        name: {row[0]: len(row) == 2 for row in fields.values()} for name, fields in rows.items()
    }


def plain(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A definition as upstream's OpenAPI has it."""
    if name in SCALARS:
        extra = {"description": schema["description"]} if "description" in schema else {}
        return extra | OPENAPI_SCALARS[SCALARS[name]]
    result: dict[str, Any] = clean(schema)
    for field in ("apiVersion", "kind"):
        result.get("properties", {}).get(field, {}).pop("enum", None)
    return result


def clean(value: Any) -> Any:
    """A schema without ``null`` types and with OpenAPI v2 references."""
    if isinstance(value, list):
        return [clean(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: clean(inner) for key, inner in value.items()}
    if isinstance(value.get("type"), list):
        result["type"] = bare(value["type"])
    if isinstance(value.get("$ref"), str):
        result["$ref"] = "#/definitions/" + value["$ref"].rsplit("/", 1)[1]
    return result


def write(name: str, definitions: dict[str, Any]) -> None:
    """One definition a line."""
    lines = (
        f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}"
        for key, value in definitions.items()
    )
    (OUT / name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
