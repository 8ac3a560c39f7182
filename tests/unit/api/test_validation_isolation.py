# SPDX-License-Identifier: Apache-2.0
"""What the API refuses of security contexts, host names and resolvers."""

from __future__ import annotations

import pytest

from kedge.api import validation
from kedge.api.kinds import find
from tests.unit.api.test_validation import causes, pod

NONE = "FieldValueInvalid"
FIRST = "spec.containers[0].securityContext"


def contained(**context):
    return pod(containers=[{"name": "c", "image": "i", "securityContext": context}])


@pytest.mark.parametrize(
    ("obj", "field", "reason"),
    [
        (contained(allowPrivilegeEscalation=False, privileged=True), f"{FIRST}.allowPrivilegeEscalation", NONE),
        (contained(allowPrivilegeEscalation=False, capabilities={"add": ["SYS_ADMIN"]}), f"{FIRST}.allowPrivilegeEscalation", NONE),
        (contained(procMount="Unmasked"), f"{FIRST}.procMount", NONE),
        (contained(runAsUser=-1), f"{FIRST}.runAsUser", NONE),
        (contained(seccompProfile={"type": "Localhost"}), f"{FIRST}.seccompProfile.localhostProfile", "FieldValueRequired"),
        (contained(seccompProfile={"type": "Localhost", "localhostProfile": "../x"}), f"{FIRST}.seccompProfile.localhostProfile", NONE),
        (contained(seccompProfile={"type": "RuntimeDefault", "localhostProfile": "x"}), f"{FIRST}.seccompProfile.localhostProfile", NONE),
        (contained(appArmorProfile={"type": "Strong"}), f"{FIRST}.appArmorProfile.type", "FieldValueNotSupported"),
        (pod(securityContext={"supplementalGroups": [1 << 31]}), "spec.securityContext.supplementalGroups[0]", NONE),
        (pod(securityContext={"supplementalGroupsPolicy": "Loose"}), "spec.securityContext.supplementalGroupsPolicy", "FieldValueNotSupported"),
        (pod(securityContext={"sysctls": [{"name": "Net.x", "value": "1"}]}), "spec.securityContext.sysctls[0].name", NONE),
        (pod(securityContext={"sysctls": [{"name": "net.a", "value": "1"}, {"name": "net/a", "value": "2"}]}), "spec.securityContext.sysctls[1].name", "FieldValueDuplicate"),
        (pod(hostUsers=False, hostNetwork=True), "spec.hostUsers", "FieldValueForbidden"),
        (pod(shareProcessNamespace=True, hostPID=True), "spec.shareProcessNamespace", NONE),
        (pod(hostnameOverride="a.b", setHostnameAsFQDN=True), "spec.hostnameOverride", "FieldValueForbidden"),
        (pod(hostnameOverride="Not_A_Name"), "spec.hostnameOverride", NONE),
        (pod(hostAliases=[{"ip": "300.1.1.1", "hostnames": ["a"]}]), "spec.hostAliases[0].ip", NONE),
        (pod(dnsPolicy="None"), "spec.dnsConfig.nameservers", "FieldValueRequired"),
        (pod(dnsConfig={"nameservers": [f"1.1.1.{n}" for n in range(4)]}), "spec.dnsConfig.nameservers", NONE),
        (pod(dnsConfig={"nameservers": ["dns.example"]}), "spec.dnsConfig.nameservers[0]", NONE),
        (pod(dnsConfig={"searches": [f"s{n}.local" for n in range(33)]}), "spec.dnsConfig.searches", NONE),
        (pod(dnsConfig={"options": [{"value": "1"}]}), "spec.dnsConfig.options[0]", "FieldValueRequired"),
    ],
)  # fmt: skip
def test_what_is_against_a_rule_is_named(obj, field, reason):
    assert (field, reason) in causes("", "pods", obj)


def test_what_is_within_the_rules_passes():
    context = {
        "runAsUser": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        "seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/a.json"},
        "procMount": "Unmasked",
    }
    validation.validate(
        find("", "pods"),
        pod(
            containers=[{"name": "c", "image": "i", "securityContext": context}],
            hostUsers=False,
            securityContext={"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]},
            hostAliases=[{"ip": "fd00::1", "hostnames": ["a.b"]}],
            dnsPolicy="None",
            dnsConfig={"nameservers": ["1.1.1.1", "fd00::1"], "options": [{"name": "ndots"}]},
        ),
    )
