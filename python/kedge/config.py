# SPDX-License-Identifier: Apache-2.0
"""Configuration files, flags and the environment: read here and nowhere else.

A role's configuration is a frozen dataclass with defaults. ``load`` fills it from YAML and flags
(a flag wins) and says, when something does not fit, where it stands, what was there and what was
wanted. Keys are camelCase or snake_case; unknown ones are refused. ``parser`` makes the flags from
the same dataclass, its help from the docstring's ``Attributes``, which also feed
``docs/reference/config.md``.
"""

from __future__ import annotations

import argparse
import os
import re
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from kedge.errors import ConfigError

T = TypeVar("T")

ENV_LOG_LEVEL = "KEDGE_LOG_LEVEL"
"""Log level of every role when neither file nor flag gives one; default INFO."""
ENV_KUBECONFIG = "KUBECONFIG"
"""Where ``kedge`` commands find the API server when ``--kubeconfig`` is not given."""

MAX_CONFIG_BYTES = 1 << 20
"""A configuration file larger than this is refused before it is parsed."""
EXIT_CONFIG = 78
"""The exit status of a role that a restart cannot help (EX_CONFIG of sysexits.h)."""

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
}
_COMPARISONS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def environment(name: str, default: str = "") -> str:
    """The value of an environment variable."""
    return os.environ.get(name, default)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read, is too large, is not YAML, or is not a mapping.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes")
    try:
        content = yaml.safe_load(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: byte {error.start}") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(f"{path}: not YAML{where}: {problem}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: wanted a mapping of settings, got: {_shown(content)}")
    return content


def load(kind: type[T], path: Path | None, overrides: dict[str, Any]) -> T:
    """A configuration from a file and flags.

    Args:
        kind: a dataclass with defaults.
        path: a YAML file with its keys in camelCase or snake_case, or none.
        overrides: values of flags by field name; ``None`` means not given.

    Raises:
        ConfigError: an unknown key or a value that does not fit.
    """
    values = _section(kind, read_yaml(path), f"{path}: ") if path else {}
    hints = typing.get_type_hints(kind, include_extras=True)
    for name, value in overrides.items():
        if value is not None:
            values[name] = _value(hints[name], value, f"--{_dashed(name)}")
    level = environment(ENV_LOG_LEVEL)
    if level and "log_level" in hints:
        values.setdefault("log_level", level)
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(f"{path or 'flags'}: {error}") from error


def parser(kind: type[Any], program: str, description: str) -> argparse.ArgumentParser:
    """A command line with ``--config FILE`` and a flag for each field of ``kind`` that is no section.

    Args:
        kind: a dataclass with defaults, its fields described under ``Attributes``.
        program: the name shown in the usage line.
        description: what the program does.
    """
    result = argparse.ArgumentParser(prog=program, description=description)
    result.add_argument("--config", metavar="FILE", help="settings in YAML; flags win over it")
    texts = descriptions(kind)
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        if is_dataclass(hint) or typing.get_origin(hint) is dict:
            continue
        text = f"{texts.get(field.name, '')} {_default_text(field)}".strip().replace("%", "%%")
        flag = f"--{_dashed(field.name)}"
        if hint is bool:
            action = argparse.BooleanOptionalAction
            result.add_argument(flag, action=action, default=None, help=text)
        elif typing.get_origin(hint) in (tuple, list):
            result.add_argument(flag, nargs="*", metavar="VALUE", help=text)
        else:
            result.add_argument(flag, metavar=_metavar(hint), help=text)
    return result


def from_flags(kind: type[T], parsed: argparse.Namespace) -> T:
    """The configuration that a command line made by ``parser`` asks for.

    Raises:
        ConfigError: a setting does not fit.
    """
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    overrides = {name: value for name, value in vars(parsed).items() if name in names}
    return load(kind, Path(parsed.config) if parsed.config else None, overrides)


def descriptions(kind: type[Any]) -> dict[str, str]:
    """What the docstring of a dataclass says about each field, on one line each."""
    _, _, section = (kind.__doc__ or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for name, text in re.findall(r"^ {8}(\w+): (.+(?:\n {9,}.+)*)", section, re.MULTILINE):
        found[name] = " ".join(text.split())
    return found


def _section(kind: Any, raw: dict[Any, Any], where: str) -> dict[str, Any]:
    names = {spelling: f.name for f in fields(kind) for spelling in (f.name, _camel(f.name))}
    hints = typing.get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        name = names.get(key)
        if name is None:
            wanted = ", ".join(_camel(field.name) for field in fields(kind))
            got = _shown(value)
            raise ConfigError(f"{where}{key}: unknown setting, got: {got}, wanted one of: {wanted}")
        if name in values:
            raise ConfigError(f"{where}{key}: given twice, as {name} and {_camel(name)}")
        values[name] = _value(hints[name], value, f"{where}{key}")
    return values


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: got: {_shown(value)}, wanted: a mapping of settings")
        values = _section(hint, value, f"{where}.")
        return hint(**values)  # type: ignore[operator]
    try:
        return msgspec.convert(value, hint, strict=not isinstance(value, str), dec_hook=_custom)
    except msgspec.ValidationError as error:
        got = _shown(value)
        raise ConfigError(f"{where}: got: {got}, wanted: {wanted_text(hint)}") from error


def _custom(kind: type[Any], value: Any) -> Any:
    """Converts what msgspec does not know itself."""
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError(f"wanted: {wanted_text(kind)}")


def wanted_text(hint: Any) -> str:
    """What a type accepts, for people."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        limits = [
            f"{word} {limit:g}"
            for meta in arguments[1:]
            for name, word in _COMPARISONS.items()
            if (limit := getattr(meta, name, None)) is not None
        ]
        return ", ".join([wanted_text(arguments[0]), *limits])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(wanted_text(one) for one in arguments if one is not type(None))
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (tuple, list):
        return f"a list, each {wanted_text(arguments[0])}"
    if origin is dict:
        return "a mapping"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _metavar(hint: Any) -> str:
    return {int: "N", float: "N", Path: "PATH"}.get(hint, "VALUE")


def _default_text(field: Any) -> str:
    if field.default is MISSING or field.default in ("", (), None):
        return ""
    return f"(default: {field.default})"
