# SPDX-License-Identifier: Apache-2.0
"""Rules of MutatingWebhookConfigurations and ValidatingWebhookConfigurations."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kedge.api import names

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

VERSIONS = ("v1", "v1beta1")
"""Of AdmissionReview."""
OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
MAX_SECONDS = 30
_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def validate(obj: Object, problems: Problems) -> None:
    """A configuration of either kind."""
    seen: set[str] = set()
    for index, hook in enumerate(obj.get("webhooks", ())):
        path = f"webhooks[{index}]"
        _hook(hook, path, problems)
        name = hook.get("name", "")
        if name and name in seen:
            problems.duplicate(f"{path}.name", name)
        seen.add(name)


def _hook(hook: Object, path: str, problems: Problems) -> None:
    _name(hook.get("name", ""), f"{path}.name", problems)
    for index, rule in enumerate(hook.get("rules", ())):
        _rule(rule, f"{path}.rules[{index}]", problems)
    for field, allowed in (
        ("failurePolicy", ("Fail", "Ignore")),
        ("matchPolicy", ("Equivalent", "Exact")),
        ("reinvocationPolicy", ("IfNeeded", "Never")),
    ):
        if field in hook:
            problems.choice(f"{path}.{field}", hook[field], allowed)
    if "sideEffects" not in hook:
        detail = f"must specify one of {', '.join(_SIDE_EFFECTS)}"
        problems.required(f"{path}.sideEffects", detail)
    else:
        problems.choice(f"{path}.sideEffects", hook["sideEffects"], _SIDE_EFFECTS)
    seconds = hook.get("timeoutSeconds", 1)
    if not 1 <= seconds <= MAX_SECONDS:
        detail = "the timeout value must be between 1 and 30 seconds"
        problems.invalid(f"{path}.timeoutSeconds", seconds, detail)
    for field in ("namespaceSelector", "objectSelector"):
        _selector(hook.get(field, {}), f"{path}.{field}", problems)
    _client(hook.get("clientConfig", {}), f"{path}.clientConfig", problems)
    if hook.get("matchConditions"):
        detail = "match conditions are not served here: there is no CEL yet"
        problems.forbidden(f"{path}.matchConditions", detail)
    _versions(hook.get("admissionReviewVersions", ()), f"{path}.admissionReviewVersions", problems)


def _name(name: str, path: str, problems: Problems) -> None:
    if not name:
        problems.required(path)
        return
    complaint = names.subdomain(name)
    problems.text(path, name, complaint)
    if not complaint and name.count(".") < 2:
        detail = "should be a domain with at least three segments separated by dots"
        problems.invalid(path, name, detail)


def _versions(versions: list[str], path: str, problems: Problems) -> None:
    if not versions:
        problems.required(path, f"must specify one of {', '.join(VERSIONS)}")
        return
    seen: set[str] = set()
    for index, version in enumerate(versions):
        if version in seen:
            problems.invalid(f"{path}[{index}]", version, "duplicate version")
        seen.add(version)
        problems.text(f"{path}[{index}]", version, names.label_1035(version))
    if not seen & set(VERSIONS):
        detail = f"must include at least one of {', '.join(VERSIONS)}"
        problems.invalid(path, versions, detail)


def _rule(rule: Object, path: str, problems: Problems) -> None:
    operations = rule.get("operations", [])
    if not operations:
        problems.required(f"{path}.operations")
    _alone(operations, "operations", f"{path}.operations", problems)
    for index, operation in enumerate(operations):
        problems.choice(f"{path}.operations[{index}]", operation, OPERATIONS)
    for field, words in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        if not rule.get(field):
            problems.required(f"{path}.{field}")
        _alone(rule.get(field, []), words, f"{path}.{field}", problems)
    for index, version in enumerate(rule.get("apiVersions", ())):
        if not version:
            problems.required(f"{path}.apiVersions[{index}]")
    _resources(rule.get("resources", []), f"{path}.resources", problems)
    if "scope" in rule:
        problems.choice(f"{path}.scope", rule["scope"], ("*", "Cluster", "Namespaced"))


def _alone(values: list[str], words: str, path: str, problems: Problems) -> None:
    if len(values) > 1 and "*" in values:
        problems.invalid(path, values, f"if '*' is present, must not specify other {words}")


def _resources(resources: list[str], path: str, problems: Problems) -> None:
    if not resources:
        problems.required(path)
    all_below: set[str] = set()
    below_all: set[str] = set()
    for index, one in enumerate(resources):
        where = f"{path}[{index}]"
        if not one:
            problems.required(where)
            continue
        resource, slash, subresource = one.partition("/")
        if not slash:
            continue
        if resource in all_below:
            detail = f"if '{resource}/*' is present, must not specify {one}"
            problems.invalid(where, one, detail)
        if subresource in below_all:
            detail = f"if '*/{subresource}' is present, must not specify {one}"
            problems.invalid(where, one, detail)
        if subresource == "*":
            all_below.add(resource)
        if resource == "*":
            below_all.add(subresource)
    if len(resources) > 1 and "*/*" in resources:
        detail = "if '*/*' is present, must not specify other resources"
        problems.invalid(path, resources, detail)
    if "*" in resources and any(one and one != "*" and "/" not in one for one in resources):
        detail = "if '*' is present, must not specify other resources without subresources"
        problems.invalid(path, resources, detail)


def _selector(selector: Object, path: str, problems: Problems) -> None:
    for key, value in selector.get("matchLabels", {}).items():
        problems.text(f"{path}.matchLabels", key, names.qualified(key))
        problems.text(f"{path}.matchLabels", value, names.label_value(value))
    for index, one in enumerate(selector.get("matchExpressions", ())):
        where = f"{path}.matchExpressions[{index}]"
        operator, values = one.get("operator"), one.get("values", [])
        problems.text(f"{where}.key", one.get("key", ""), names.qualified(one.get("key", "")))
        if operator not in _OPERATORS:
            problems.invalid(f"{where}.operator", operator, "not a valid selector operator")
        elif operator in ("In", "NotIn") and not values:
            detail = "must be specified when `operator` is 'In' or 'NotIn'"
            problems.required(f"{where}.values", detail)
        elif operator in ("Exists", "DoesNotExist") and values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            problems.forbidden(f"{where}.values", detail)


def _client(client: Object, path: str, problems: Problems) -> None:
    if ("url" in client) == ("service" in client):
        problems.required(path, "exactly one of url or service is required")
    elif "url" in client:
        _url(client["url"], f"{path}.url", problems)
    else:
        _service(client["service"], f"{path}.service", problems)
    if "caBundle" in client:
        try:
            base64.b64decode(client["caBundle"], validate=True)
        except (binascii.Error, ValueError):
            problems.invalid(f"{path}.caBundle", "", "must be base64")


def _url(url: str, path: str, problems: Problems) -> None:
    form = "; desired format: https://host[/path]"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        problems.required(path, f"url must be a valid URL: {error}{form}")
        return
    if parts.scheme != "https":
        detail = f"'https' is the only allowed URL scheme{form}"
        problems.invalid(path, parts.scheme, detail)
    if not parts.hostname:
        problems.invalid(path, parts.netloc, f"host must be specified{form}")
    if parts.username is not None:
        problems.invalid(path, "", "user information is not permitted in the URL")
    if parts.fragment:
        problems.invalid(path, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        problems.invalid(path, parts.query, "query parameters are not permitted in the URL")


def _service(service: Object, path: str, problems: Problems) -> None:
    if not service.get("name"):
        problems.required(f"{path}.name", "service name is required")
    if not service.get("namespace"):
        problems.required(f"{path}.namespace", "service namespace is required")
    port = service.get("port", 443)
    if not 1 <= port <= 65535:
        detail = "port is not valid: must be between 1 and 65535, inclusive"
        problems.invalid(f"{path}.port", port, detail)
    where = service.get("path")
    if where is None or where == "/":
        return
    if not where.startswith("/"):
        problems.invalid(f"{path}.path", where, "must start with a '/'")
        return
    for number, step in enumerate(where[1:].removesuffix("/").split("/")):
        if not step:
            problems.invalid(f"{path}.path", where, f"segment[{number}] may not be empty")
            continue
        complaint = names.subdomain(step)
        if complaint:
            problems.invalid(f"{path}.path", where, f"segment[{number}]: {complaint}")
