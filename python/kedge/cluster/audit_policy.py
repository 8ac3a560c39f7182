# SPDX-License-Identifier: Apache-2.0
"""The audit policy file: ``audit.k8s.io/v1`` ``Policy``, held against upstream's rules before anything is written down.

What a rule matches is Rust's (``kedge_core::kubeapi::audit``), which every request passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge import config
from kedge.api import names
from kedge.api.validation import Problems
from kedge.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

Object = dict[str, Any]

MAX_RULES = 1_000
LEVELS = ("Metadata", "None", "Request", "RequestResponse")
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
_TEXTS = ("users", "userGroups", "verbs", "namespaces", "nonResourceURLs", "omitStages")
_KINDS: dict[str, type] = {
    "level": str, "resources": list, "omitManagedFields": bool, **dict.fromkeys(_TEXTS, list),
}  # fmt: skip
_POLICY: dict[str, type] = {
    "apiVersion": str, "kind": str, "metadata": dict, "rules": list, "omitStages": list,
    "omitManagedFields": bool,
}  # fmt: skip
_GROUP: dict[str, type] = {"group": str, "resources": list, "resourceNames": list}


def read(path: Path) -> Object:
    """The policy in a file, as the server takes it.

    Raises:
        ConfigError: it cannot be read, or says what is not understood; the message names the field.
    """
    document = config.read_yaml(path)
    try:
        return checked(document)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def checked(document: Object) -> Object:
    """A policy of which all is understood. Pure.

    Raises:
        ValueError: a field is unknown, or against a rule.
    """
    version, kind = document.get("apiVersion"), document.get("kind")
    if (version, kind) != ("audit.k8s.io/v1", "Policy"):
        raise ValueError(f"wanted: audit.k8s.io/v1 Policy, got: {version!r:.80} {kind!r:.80}")
    _shape(document, _POLICY, "")
    rules = document.get("rules") or []
    if not rules:
        raise ValueError("loaded illegal policy with 0 rules")
    if len(rules) > MAX_RULES:
        raise ValueError(f"rules: wanted at most {MAX_RULES}, got: {len(rules)}")
    problems = Problems()
    _stages(document, "omitStages", problems)
    for index, rule in enumerate(rules):
        _shape(rule, _KINDS, f"rules[{index}]")
        _rule(rule, f"rules[{index}]", problems)
    if problems.causes:
        raise ValueError(", ".join(f"{one['field']}: {one['message']}" for one in problems.causes))
    return {
        name: value
        for name, value in document.items()
        if name not in ("apiVersion", "kind", "metadata") and value is not None
    }


def _shape(value: Any, kinds: dict[str, type], path: str) -> None:
    """Whether these are the fields, and of their types; a null is a field that is not there."""
    if type(value) is not dict:
        raise ValueError(f"{path}: wanted: an object, got: {value!r:.80}")
    for name in list(value):
        where, kind = (f"{path}.{name}" if path else f"{name}"), kinds.get(name)
        if kind is None:
            raise ValueError(f'unknown field "{where}"')
        if value[name] is None:
            del value[name]
        elif type(value[name]) is not kind:
            raise ValueError(f"{where}: wanted: {kind.__name__}, got: {value[name]!r:.80}")
        elif (kind is list and name not in ("rules", "resources")) or name == "resourceNames":
            _texts(value[name], where)


def _texts(values: list[Any], path: str) -> None:
    for index, value in enumerate(values):
        if type(value) is not str:
            raise ValueError(f"{path}[{index}]: wanted: a text, got: {value!r:.80}")


def _rule(rule: Object, path: str, problems: Problems) -> None:
    problems.choice(f"{path}.level", rule.get("level"), LEVELS)
    urls = rule.get("nonResourceURLs") or []
    if urls and (rule.get("resources") or rule.get("namespaces")):
        detail = "rules cannot apply to both regular resources and non-resource URLs"
        problems.invalid(f"{path}.nonResourceURLs", urls, detail)
    for index, url in enumerate(urls):
        where = f"{path}.nonResourceURLs[{index}]"
        if url == "*":
            continue
        if not url.startswith("/"):
            detail = "non-resource URL rules must begin with a '/' character"
            problems.invalid(where, url, detail)
        if "*" in url[:-1]:
            detail = "non-resource URL wildcards '*' must be the final character of the rule"
            problems.invalid(where, url, detail)
    _stages(rule, f"{path}.omitStages", problems)
    for index, group in enumerate(rule.get("resources") or ()):
        _group(group, f"{path}.resources[{index}]", problems)


def _group(group: Any, path: str, problems: Problems) -> None:
    _shape(group, _GROUP, path)
    _texts(group.get("resources") or [], f"{path}.resources")
    name = group.get("group", "")
    if name and (complaint := names.subdomain(name)):
        problems.invalid(f"{path}.group", name, complaint)
    if group.get("resourceNames") and not group.get("resources"):
        detail = "using resourceNames requires at least one resource"
        problems.invalid(f"{path}.resourceNames", group["resourceNames"], detail)


def _stages(holder: Object, path: str, problems: Problems) -> None:
    for index, stage in enumerate(holder.get("omitStages") or ()):
        if stage not in STAGES:
            detail = f"allowed stages are {','.join(STAGES)}"
            problems.invalid(f"{path}[{index}]", stage, detail)
