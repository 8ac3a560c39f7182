# SPDX-License-Identifier: Apache-2.0
"""Configuration files and the environment, read here and nowhere else.

A role's configuration is a frozen dataclass; ``load`` fills it from YAML and names the file, the
key, what was there and what was wanted when something does not fit. Flags override the file.
"""

from __future__ import annotations

import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from kedge.errors import ConfigError

T = TypeVar("T")

ENV_LOG_LEVEL = "KEDGE_LOG_LEVEL"
"""Log level of every role; default INFO."""
ENV_KUBECONFIG = "KUBECONFIG"
"""Where ``kedge`` commands find the API server when ``--kubeconfig`` is not given."""

MAX_CONFIG_BYTES = 1 << 20
"""A configuration file larger than this is refused before it is parsed."""


def environment(name: str, default: str = "") -> str:
    """The value of an environment variable."""
    return os.environ.get(name, default)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read, is too large, is not YAML, or is not a mapping.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes: {path.stat().st_size}")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: byte {error.start}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(f"{path}: not YAML{where}: {problem}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: wanted a mapping of settings, got: {type(content).__name__}")
    return content


def load(kind: type[T], path: Path | None, overrides: dict[str, Any]) -> T:
    """A configuration from a file and flags.

    Args:
        kind: a dataclass with defaults.
        path: a YAML file with its keys in camelCase or snake_case, or none.
        overrides: values of flags by field name; ``None`` means not given.

    Raises:
        ConfigError: an unknown key or a value of the wrong type.
    """
    raw = read_yaml(path) if path else {}
    names = {_camel(field.name): field.name for field in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in raw.items():
        name = names.get(key, key)
        if name not in names.values():
            wanted = ", ".join(sorted(names))
            raise ConfigError(f"{path}: {key}: unknown setting, got: {value!r}, wanted one of: {wanted}")
        values[name] = _convert(kind, name, value, f"{path}: {key}")
    for name, value in overrides.items():
        if value is not None:
            values[name] = _convert(kind, name, value, f"--{name.replace('_', '-')}")
    return kind(**values)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _convert(kind: type[Any], name: str, value: Any, where: str) -> Any:
    assert is_dataclass(kind)
    wanted = msgspec.inspect.type_info(kind)
    target = next(field.type for field in wanted.fields if field.name == name)  # type: ignore[attr-defined]
    try:
        return msgspec.convert({name: value}, msgspec.defstruct("Setting", [(name, _annotation(kind, name))]), strict=False).__getattribute__(name)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: got: {value!r}, wanted: {_describe(target)} ({error})") from error


def _annotation(kind: type[Any], name: str) -> Any:
    import typing  # noqa: PLC0415 - only at start

    return typing.get_type_hints(kind)[name]


def _describe(target: object) -> str:
    return type(target).__name__.removesuffix("Type").lower()
