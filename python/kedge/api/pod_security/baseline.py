# SPDX-License-Identifier: Apache-2.0
"""The baseline: nothing of known ways to become privileged. Pure.

``CHECKS`` names each check and its forms, with the minor versions since which they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.pod_security.words import (
    Finding,
    containers,
    count,
    listed,
    named,
    quoted,
    security,
    setters,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Object = dict[str, Any]

_CAPABILITIES = frozenset({
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
})  # fmt: skip
_SYSCTLS = frozenset({
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
})  # fmt: skip
_SYSCTLS_27 = _SYSCTLS | {"net.ipv4.ip_local_reserved_ports"}
_SYSCTLS_29 = _SYSCTLS_27 | {
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
_SE_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
_SE_TYPES_31 = _SE_TYPES | {"container_engine_t"}
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
PROFILES = ("RuntimeDefault", "Localhost")


def _app_armor(metadata: Object, spec: Object) -> Finding | None:
    values: set[str] = set()

    def is_bad(context: Object) -> bool:
        profile = context.get("appArmorProfile")
        if not profile or profile.get("type") in PROFILES:
            return False
        values.add(profile.get("type", ""))
        return True

    who = setters(spec, is_bad)
    notes = sorted(
        f'{key}="{value}"'
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_APP_ARMOR)
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    )
    if notes:
        who = " and ".join(filter(None, (who, count("annotation", "annotations", notes))))
    if not who:
        return None
    found = [*sorted(values), *notes]
    reason = count("forbidden AppArmor profile", "forbidden AppArmor profiles", found)
    return Finding(reason, f"{who} must not set AppArmor profile type to {quoted(found)}")


def _capabilities(_: Object, spec: Object) -> Finding | None:
    bad: set[str] = set()

    def adds(container: Object) -> bool:
        added = (security(container).get("capabilities") or {}).get("add") or ()
        extra = {one for one in added if one not in _CAPABILITIES}
        bad.update(extra)
        return bool(extra)

    names = named(spec, adds)
    if not names:
        return None
    words = f"{listed(names)} must not include {quoted(sorted(bad))} in securityContext.capabilities.add"
    return Finding("non-default capabilities", words)


def _host_namespaces(_: Object, spec: Object) -> Finding | None:
    found = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    return Finding("host namespaces", ", ".join(found)) if found else None


def _host_paths(_: Object, spec: Object) -> Finding | None:
    names = [one.get("name", "") for one in spec.get("volumes") or () if "hostPath" in one]
    if not names:
        return None
    return Finding("hostPath volumes", f"{count('volume', 'volumes', names)} {quoted(names)}")


def _host_ports(_: Object, spec: Object) -> Finding | None:
    ports: set[str] = set()

    def takes(container: Object) -> bool:
        taken = [
            str(one["hostPort"]) for one in container.get("ports") or () if one.get("hostPort")
        ]
        ports.update(taken)
        return bool(taken)

    names = named(spec, takes)
    if not names:
        return None
    shown = sorted(ports)
    words = f"{listed(names)} {count('uses', 'use', names)} {count('hostPort', 'hostPorts', shown)}"
    return Finding("hostPort", f"{words} {', '.join(shown)}")


def _hosts_of(container: Object) -> Iterator[str]:
    hooks = container.get("lifecycle") or {}
    probes = [container.get(f"{name}Probe") for name in ("liveness", "readiness", "startup")]
    for one in (*probes, hooks.get("postStart"), hooks.get("preStop")):
        for action in ("httpGet", "tcpSocket"):
            host = ((one or {}).get(action) or {}).get("host")
            if host:
                yield host


def _probe_hosts(_: Object, spec: Object) -> Finding | None:
    names = sorted(set(named(spec, lambda one: next(_hosts_of(one), ""))))
    if not names:
        return None
    hosts = sorted({host for one in containers(spec) for host in _hosts_of(one)})
    what = count("probe or lifecycle host", "probe or lifecycle hosts", hosts)
    words = f"{listed(names)} {count('uses', 'use', names)} {what} {quoted(hosts)}"
    return Finding("probe or lifecycle host", words)


def _privileged(_: Object, spec: Object) -> Finding | None:
    names = named(spec, lambda one: security(one).get("privileged"))
    if not names:
        return None
    return Finding("privileged", f"{listed(names)} must not set securityContext.privileged=true")


def proc_mount(_: Object, spec: Object) -> Finding | None:
    """Only the usual masks over /proc."""
    names = named(spec, lambda one: security(one).get("procMount", "Default") != "Default")
    if not names:
        return None
    found = {security(one).get("procMount", "Default") for one in containers(spec)} - {"Default"}
    words = f"{listed(names)} must not set securityContext.procMount to {quoted(sorted(found))}"
    return Finding("procMount", words)


def _proc_mount_35(metadata: Object, spec: Object) -> Finding | None:
    return None if spec.get("hostUsers") is False else proc_mount(metadata, spec)


def _se_linux(allowed: frozenset[str]) -> Callable[[Object, Object], Finding | None]:
    def check(_: Object, spec: Object) -> Finding | None:
        types: set[str] = set()
        fields: set[str] = set()

        def is_bad(context: Object) -> bool:
            options = context.get("seLinuxOptions") or {}
            bad = options.get("type", "") not in allowed
            if bad:
                types.add(options["type"])
            given = {field for field in ("user", "role") if options.get(field)}
            fields.update(given)
            return bad or bool(given)

        who = setters(spec, is_bad)
        if not who:
            return None
        data = []
        if types:
            data.append(f"{count('type', 'types', list(types))} {quoted(sorted(types))}")
            data += [f"{field} may not be set" for field in ("user", "role") if field in fields]
        words = f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}"
        return Finding("seLinuxOptions", words)

    return check


def _seccomp_0(metadata: Object, spec: Object) -> Finding | None:
    notes = metadata.get("annotations") or {}
    keys = {_SECCOMP_POD, *(_SECCOMP_CONTAINER + one.get("name", "") for one in containers(spec))}
    found = sorted(
        f'{key}="{notes[key]}"'
        for key in keys & notes.keys()
        if notes[key] not in ("runtime/default", "docker/default")
        and not notes[key].startswith("localhost/")
    )
    if not found:
        return None
    words = f"forbidden {count('annotation', 'annotations', found)} {', '.join(found)}"
    return Finding("seccompProfile", words)


def bad_seccomp(spec: Object) -> Finding | None:
    """Profiles that are named must be the runtime's or the node's."""
    values: set[str] = set()

    def is_bad(context: Object) -> bool:
        profile = context.get("seccompProfile")
        if not profile or profile.get("type") in PROFILES:
            return False
        values.add(profile.get("type", ""))
        return True

    who = setters(spec, is_bad)
    if not who:
        return None
    words = f"{who} must not set securityContext.seccompProfile.type to {quoted(sorted(values))}"
    return Finding("seccompProfile", words)


def _seccomp_19(_: Object, spec: Object) -> Finding | None:
    return bad_seccomp(spec)


def _sysctls(allowed: frozenset[str]) -> Callable[[Object, Object], Finding | None]:
    def check(_: Object, spec: Object) -> Finding | None:
        names = [one.get("name", "") for one in security(spec).get("sysctls") or ()]
        found = [name for name in names if name not in allowed]
        return Finding("forbidden sysctls", ", ".join(found)) if found else None

    return check


def _host_process(_: Object, spec: Object) -> Finding | None:
    who = setters(spec, lambda context: (context.get("windowsOptions") or {}).get("hostProcess"))
    if not who:
        return None
    words = f"{who} must not set securityContext.windowsOptions.hostProcess=true"
    return Finding("hostProcess", words)


CHECKS: dict[str, tuple[tuple[int, Callable[[Object, Object], Finding | None]], ...]] = {
    "appArmorProfile": ((0, _app_armor),),
    "capabilities_baseline": ((0, _capabilities),),
    "hostNamespaces": ((0, _host_namespaces),),
    "hostPathVolumes": ((0, _host_paths),),
    "hostPorts": ((0, _host_ports),),
    "hostProbesAndHostLifecycle": ((34, _probe_hosts),),
    "privileged": ((0, _privileged),),
    "procMount_baseline": ((0, proc_mount), (35, _proc_mount_35)),
    "seLinuxOptions": ((0, _se_linux(_SE_TYPES)), (31, _se_linux(_SE_TYPES_31))),
    "seccompProfile_baseline": ((0, _seccomp_0), (19, _seccomp_19)),
    "sysctls": ((0, _sysctls(_SYSCTLS)), (27, _sysctls(_SYSCTLS_27)), (29, _sysctls(_SYSCTLS_29))),
    "windowsHostProcess": ((0, _host_process),),
}
