# SPDX-License-Identifier: Apache-2.0
"""The Pod Security Standards: what is found, in upstream's words, and since which version."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.api import pod_security
from kedge.api.pod_security import LATEST, LevelVersion
from kedge.api.validation import Problems

BASELINE, RESTRICTED = LevelVersion("baseline"), LevelVersion("restricted")
HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def found(wanted: LevelVersion, spec: dict[str, Any], notes: dict[str, str] | None = None) -> str:
    return pod_security.in_detail(pod_security.violations(wanted, {"annotations": notes}, spec))


def container(
    context: dict[str, Any] | None = None, name: str = "a", **more: Any
) -> dict[str, Any]:
    return {"name": name, **({"securityContext": context} if context else {}), **more}


def spec(*contexts: dict[str, Any], **more: Any) -> dict[str, Any]:
    containers = [container(one, "abcd"[number]) for number, one in enumerate(contexts or ({},))]
    return {"containers": containers, **more}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (spec(hostNetwork=True, hostPID=True), "host namespaces (hostNetwork=true, hostPID=true)"),
        (spec(volumes=[{"name": "v", "hostPath": {}}]), 'hostPath volumes (volume "v")'),
        (spec(volumes=[{"name": "v", "hostPath": {}}, {"name": "w", "hostPath": {}}]), 'hostPath volumes (volumes "v", "w")'),
        (spec({"privileged": True}, {"privileged": True}),
         'privileged (containers "a", "b" must not set securityContext.privileged=true)'),
        (spec({"capabilities": {"add": ["NET_RAW", "CHOWN", "SYS_ADMIN"]}}),
         'non-default capabilities (container "a" must not include "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)'),
        ({"containers": [container(ports=[{"hostPort": 80}, {"hostPort": 443}])]},
         'hostPort (container "a" uses hostPorts 443, 80)'),
        ({"containers": [container(livenessProbe={"httpGet": {"host": "10.0.0.1"}})]},
         'probe or lifecycle host (container "a" uses probe or lifecycle host "10.0.0.1")'),
        (spec({"procMount": "Unmasked"}), 'procMount (container "a" must not set securityContext.procMount to "Unmasked")'),
        (spec({"seLinuxOptions": {"type": "spc_t", "user": "u"}}),
         'seLinuxOptions (container "a" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set)'),
        (spec({"seccompProfile": {"type": "Unconfined"}}, securityContext={"seccompProfile": {"type": "Unconfined"}}),
         'seccompProfile (pod and container "a" must not set securityContext.seccompProfile.type to "Unconfined")'),
        (spec(securityContext={"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_fin_timeout"}]}),
         "forbidden sysctls (kernel.msgmax)"),
        (spec({"appArmorProfile": {"type": "Unconfined"}}),
         'forbidden AppArmor profile (container "a" must not set AppArmor profile type to "Unconfined")'),
        (spec({"windowsOptions": {"hostProcess": True}}),
         'hostProcess (container "a" must not set securityContext.windowsOptions.hostProcess=true)'),
        (spec(HARDENED), ""),
        (spec(), ""),
    ],
)  # fmt: skip
def test_the_baseline(given: dict[str, Any], said: str) -> None:
    assert found(BASELINE, given) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (spec(),
         'allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), '
         'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]), '
         'runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true), '
         'seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'),
        (spec(HARDENED), ""),
        (spec(HARDENED | {"runAsUser": 0}), 'runAsUser=0 (container "a" must not set runAsUser=0)'),
        (spec(HARDENED | {"runAsNonRoot": False}, securityContext={"runAsNonRoot": True}),
         'runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)'),
        (spec(HARDENED, volumes=[{"name": "v", "hostPath": {}}, {"name": "w", "nfs": {}}, {"name": "s", "secret": {}}]),
         'restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "nfs")'),
        (spec(HARDENED | {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CHOWN"]}}),
         'unrestricted capabilities (container "a" must not include "CHOWN" in securityContext.capabilities.add)'),
        (spec({"windowsOptions": {}, "runAsNonRoot": True}, os={"name": "windows"}), ""),
        (spec(HARDENED | {"runAsNonRoot": False, "runAsUser": 0}, hostUsers=False), ""),
    ],
)  # fmt: skip
def test_restricted(given: dict[str, Any], said: str) -> None:
    assert found(RESTRICTED, given) == said


def test_the_hostpath_of_a_restricted_pod_is_told_once() -> None:
    given = spec({"privileged": True, **HARDENED}, volumes=[{"name": "v", "hostPath": {}}])
    reasons = [one.reason for one in pod_security.violations(RESTRICTED, {}, given)]
    assert reasons == ["privileged", "restricted volume types"]


@pytest.mark.parametrize(
    ("level", "before", "given"),
    [
        ("baseline", 29, spec(securityContext={"sysctls": [{"name": "net.ipv4.tcp_fin_timeout"}]})),
        ("baseline", 31, spec({"seLinuxOptions": {"type": "container_engine_t"}})),
        ("baseline", 35, spec({"procMount": "Unmasked"}, hostUsers=False)),
        ("restricted", 35, spec(HARDENED | {"runAsUser": 0}, hostUsers=False)),
    ],
)
def test_what_became_allowed_is_not_in_older_versions(
    level: str, before: int, given: dict[str, Any]
) -> None:
    assert found(LevelVersion(level, before - 1), given)
    assert not found(LevelVersion(level, before), given)
    assert not found(LevelVersion(level, LATEST), given)


@pytest.mark.parametrize(
    ("level", "since", "given"),
    [
        ("baseline", 19, spec({"seccompProfile": {"type": "Unconfined"}})),
        ("baseline", 34, {"containers": [container(readinessProbe={"tcpSocket": {"host": "x"}})]}),
        ("restricted", 8, spec(HARDENED | {"allowPrivilegeEscalation": True})),
        ("restricted", 22, spec(HARDENED | {"capabilities": {}})),
        ("restricted", 23, spec(HARDENED | {"runAsUser": 0})),
    ],
)
def test_what_became_forbidden_is_not_in_older_versions(
    level: str, since: int, given: dict[str, Any]
) -> None:
    assert not found(LevelVersion(level, since - 1), given)
    assert found(LevelVersion(level, since), given)


def test_annotations_of_old() -> None:
    notes = {"container.seccomp.security.alpha.kubernetes.io/a": "unconfined"}
    assert found(LevelVersion("baseline", 18), spec(), notes) == (
        'seccompProfile (forbidden annotation container.seccomp.security.alpha.kubernetes.io/a="unconfined")'
    )
    notes = {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}
    assert found(BASELINE, spec(), notes).startswith(
        "forbidden AppArmor profile (annotation must not set AppArmor profile type to "
    )


def test_every_kind_of_container_is_looked_at() -> None:
    bad = {"privileged": True}
    given = {
        "initContainers": [container(bad, "first")],
        "containers": [container({}, "main")],
        "ephemeralContainers": [container(bad, "debug")],
    }
    assert 'containers "first", "debug"' in found(BASELINE, given)


def test_labels_say_the_policy_and_what_is_wrong_with_them() -> None:
    prefix = pod_security.LABELS
    labels = {
        f"{prefix}enforce": "baseline",
        f"{prefix}enforce-version": "v1.24",
        f"{prefix}warn": "restricted",
    }
    policy = pod_security.policy_of(labels)
    assert [str(one) for one in policy] == [
        "baseline:v1.24",
        "privileged:latest",
        "restricted:latest",
    ]
    problems = Problems()
    labels = {f"{prefix}enforce": "strict", f"{prefix}warn-version": "1.24"}
    policy = pod_security.policy_of(labels, problems)
    assert policy.enforce == RESTRICTED
    assert [(one["field"], one["message"]) for one in problems.causes] == [
        (f"metadata.labels[{prefix}enforce]", 'Invalid value: "strict": must be one of privileged, baseline, restricted'),
        (f"metadata.labels[{prefix}warn-version]", 'Invalid value: "1.24": must be "latest" or "v1.x"'),
    ]  # fmt: skip
