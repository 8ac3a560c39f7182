# SPDX-License-Identifier: Apache-2.0
"""Rules of what a pod may do and what it is called: security contexts, host names, resolvers."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from kedge.api import names

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
MAX_ID = (1 << 31) - 1
MAX_SERVERS, MAX_SEARCHES, MAX_SEARCH_CHARACTERS = 3, 32, 2048
MAX_NAME_CHARACTERS = 64
_SYSCTL = re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*")
_ID_RULE = f"must be between 0 and {MAX_ID}, inclusive"


def validate(spec: Object, path: str, problems: Problems) -> None:
    """A pod's spec."""
    context = spec.get("securityContext", {})
    _profiles(context, f"{path}.securityContext", problems)
    _ids(context, f"{path}.securityContext", problems)
    if "supplementalGroupsPolicy" in context:
        where = f"{path}.securityContext.supplementalGroupsPolicy"
        problems.choice(where, context["supplementalGroupsPolicy"], ("Merge", "Strict"))
    _sysctls(context.get("sysctls", ()), f"{path}.securityContext.sysctls", problems)
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field, ())):
            if "securityContext" in container:
                where = f"{path}.{field}[{index}].securityContext"
                _container(spec, container["securityContext"], where, problems)
    if spec.get("hostUsers") is False:
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(field):
                detail = f"when `hostUsers` is false, `{field}` may not be set"
                problems.forbidden(f"{path}.hostUsers", detail)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        problems.invalid(
            f"{path}.shareProcessNamespace",
            True,  # noqa: FBT003 - the value shown
            "ShareProcessNamespace and HostPID cannot both be enabled",
        )
    _host_names(spec, path, problems)
    _resolver(spec, path, problems)


def _container(spec: Object, context: Object, path: str, problems: Problems) -> None:
    _profiles(context, path, problems)
    _ids(context, path, problems)
    if context.get("procMount") == "Unmasked" and spec.get("hostUsers") is not False:
        problems.invalid(
            f"{path}.procMount", "Unmasked", "`hostUsers` must be false to use `Unmasked`"
        )
    if context.get("allowPrivilegeEscalation") is not False:
        return
    where = f"{path}.allowPrivilegeEscalation"
    if context.get("privileged"):
        detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        problems.invalid(where, context["allowPrivilegeEscalation"], detail)
    added = context.get("capabilities", {}).get("add", ())
    if "CAP_SYS_ADMIN" in added or "SYS_ADMIN" in added:
        detail = (
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
        )
        problems.invalid(where, context["allowPrivilegeEscalation"], detail)


def _profiles(context: Object, path: str, problems: Problems) -> None:
    for field in ("seccompProfile", "appArmorProfile"):
        if field not in context:
            continue
        profile, where = context[field], f"{path}.{field}"
        problems.choice(f"{where}.type", profile.get("type"), PROFILES)
        name = profile.get("localhostProfile")
        if profile.get("type") != "Localhost":
            if name is not None:
                detail = "can only be set when type is Localhost"
                problems.invalid(f"{where}.localhostProfile", name, detail)
        elif not name:
            problems.required(f"{where}.localhostProfile", "must be set when type is Localhost")
        elif field == "seccompProfile" and (name.startswith("/") or ".." in name.split("/")):
            detail = "must be a relative path" if name.startswith("/") else "must not contain '..'"
            problems.invalid(f"{where}.localhostProfile", name, detail)


def _ids(context: Object, path: str, problems: Problems) -> None:
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        if field in context and not 0 <= context[field] <= MAX_ID:
            problems.invalid(f"{path}.{field}", context[field], _ID_RULE)
    for index, group in enumerate(context.get("supplementalGroups", ())):
        if not 0 <= group <= MAX_ID:
            problems.invalid(f"{path}.supplementalGroups[{index}]", group, _ID_RULE)


def _sysctls(sysctls: list[Object], path: str, problems: Problems) -> None:
    seen: set[str] = set()
    for index, one in enumerate(sysctls):
        name, where = one.get("name", ""), f"{path}[{index}].name"
        if not name:
            problems.required(where)
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            detail = "must have at most 253 characters and consist of lower case words with dots or slashes between"
            problems.invalid(where, name, detail)
        elif name.replace("/", ".") in seen:
            problems.duplicate(where, name)
        seen.add(name.replace("/", "."))


def _host_names(spec: Object, path: str, problems: Problems) -> None:
    override = spec.get("hostnameOverride")
    if override is not None:
        where = f"{path}.hostnameOverride"
        problems.text(where, override, names.subdomain(override))
        if len(override) > MAX_NAME_CHARACTERS:
            problems.too_long(where, MAX_NAME_CHARACTERS)
        for field in ("setHostnameAsFQDN", "hostNetwork"):
            if spec.get(field):
                problems.forbidden(where, f"may not be set with `{field}`")
    for index, alias in enumerate(spec.get("hostAliases", ())):
        _address(alias.get("ip", ""), f"{path}.hostAliases[{index}].ip", problems)
        for number, name in enumerate(alias.get("hostnames", ())):
            problems.text(
                f"{path}.hostAliases[{index}].hostnames[{number}]", name, names.subdomain(name)
            )


def _resolver(spec: Object, path: str, problems: Problems) -> None:
    config = spec.get("dnsConfig", {})
    servers, searches = config.get("nameservers", []), config.get("searches", [])
    where = f"{path}.dnsConfig"
    if spec.get("dnsPolicy") == "None" and not servers:
        problems.required(
            f"{where}.nameservers",
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        )
    if len(servers) > MAX_SERVERS:
        detail = f"must not have more than {MAX_SERVERS} nameservers"
        problems.invalid(f"{where}.nameservers", servers, detail)
    for index, server in enumerate(servers):
        _address(server, f"{where}.nameservers[{index}]", problems)
    if len(searches) > MAX_SEARCHES:
        detail = f"must not have more than {MAX_SEARCHES} search paths"
        problems.invalid(f"{where}.searches", searches, detail)
    if len(" ".join(searches)) > MAX_SEARCH_CHARACTERS:
        detail = f"must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        problems.invalid(f"{where}.searches", searches, detail)
    for index, option in enumerate(config.get("options", ())):
        if not option.get("name"):
            problems.required(f"{where}.options[{index}]", "must not be empty")


def _address(text: str, path: str, problems: Problems) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        problems.invalid(path, text, "must be a valid IP address")
