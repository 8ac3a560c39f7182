# SPDX-License-Identifier: Apache-2.0
"""YAML as Kubernetes reads it in requests: dates are text, keys are text, and aliases do not multiply."""

from __future__ import annotations

from typing import Any

import yaml

from kedge.errors import BadRequest

MAX_VALUES = 200_000
"""Bodies with more values than this, aliases counted as often as they stand for something, are refused."""
_NOT_OURS = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """A safe loader that notes keys which are there twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the class it comes from
        first: [one for one in known if one[0] not in _NOT_OURS]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.twice: list[str] = []

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - yaml's
        self.flatten_mapping(node)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.YAMLError("keys are not text")
            key = key_node.value
            if key in result:
                line = key_node.start_mark.line + 1
                self.twice.append(f'line {line}: key "{key}" already set in map')
            result[key] = self.construct_object(value_node, deep=deep)
        return result


def load(body: bytes) -> tuple[Any, list[str]]:
    """The document, and complaints about keys that are there twice.

    Raises:
        BadRequest: it is not one YAML document of bounded size.
    """
    try:
        loader = _Loader(body.decode())
        try:
            document = loader.get_single_data()
        finally:
            loader.dispose()
        count = _size(document, MAX_VALUES, 0)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())[:500]
        raise BadRequest(
            f"error decoding YAML: error converting YAML to JSON: yaml: {text}"
        ) from error
    if count > MAX_VALUES:
        raise BadRequest(f"error decoding YAML: more than {MAX_VALUES} values")
    return document, loader.twice


def _size(value: Any, most: int, depth: int) -> int:
    """How many values there are, counted to a little over ``most``."""
    if depth > 200:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        if isinstance(value, bytes | set | tuple):
            raise yaml.YAMLError(f"JSON has no values of this type: {type(value).__name__}")
        return 1
    count = 1
    for item in inner:
        count += _size(item, most - count, depth + 1)
        if count > most:
            break
    return count
