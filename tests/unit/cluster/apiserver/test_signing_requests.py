# SPDX-License-Identifier: Apache-2.0
"""CertificateSigningRequests in the API: who may change which part of them, and what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.access import Access, Escalation, User
from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.cluster.apiserver.signers import Signers
from kedge.errors import Forbidden, Invalid
from kedge.hub import certificates
from tests.fakes import requests
from tests.fakes.requests import condition

KEY = ObjectKey("certificates.k8s.io", "certificatesigningrequests", "", "jane")
JANE = WriteOptions(user=User("jane", ("dev", "system:authenticated")))
CERTIFICATE = requests.encoded(certificates.create_ca("a", days=1).certificate)


class Decider:
    """Allows what is in ``granted``: verb and signer."""

    def __init__(self, *granted: tuple[str, str]) -> None:
        self.granted = granted

    def allows(self, user, verb, about):
        return about.resource == "signers" and (verb, about.name) in self.granted

    def allows_url(self, user, verb, path):
        return False

    def lacks(self, user, namespace, rules):
        return []

    def rules(self, user, namespace):
        return {}


def guard(registry, *granted):
    access = Access(Decider(*granted))
    registry.guard(Escalation(access, registry.store), Signers(access))


async def create(registry, options: WriteOptions = JANE, name: str = "jane", **spec: Any):
    key = KEY._replace(name=name)
    return await registry.create(
        key, {"metadata": {"name": name}, "spec": spec or requests.spec()}, options
    )


async def set_conditions(registry, part: str, *conditions, options: WriteOptions = JANE, **status):
    patch = {"status": {"conditions": list(conditions), **status}}
    return await registry.patch(KEY, patch, subresource=part, options=options)


async def refused(registry, **spec: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as raised:
        await create(registry, **{**requests.spec(), **spec})
    return [(one["field"], one["message"]) for one in raised.value.details["causes"]]


async def test_who_asks_is_written_down_whatever_they_say(registry):
    made = await create(
        registry, **requests.spec(username="root", uid="0", groups=["x"], extra={"a": ["b"]})
    )
    assert made["spec"]["username"] == "jane"
    assert made["spec"]["groups"] == ["dev", "system:authenticated"]
    assert not {"uid", "extra"} & set(made["spec"])
    assert made["status"] == {}


async def test_an_account_is_written_down_with_its_uid(registry):
    account = registry.get(ObjectKey("", "serviceaccounts", "default", "default"))
    options = WriteOptions(user=User("system:serviceaccount:default:default"))
    made = await create(registry, options)
    assert made["spec"]["uid"] == account["metadata"]["uid"]


async def test_a_request_whose_key_is_not_the_senders_is_refused(registry):
    pem = certificates.make_csr("jane").certificate
    der = bytearray(base64.b64decode("".join(pem.splitlines()[1:-1])))
    der[-1] ^= 1
    body = base64.b64encode(der).decode()
    label = "CERTIFICATE REQUEST-----"
    changed = requests.encoded(f"-----BEGIN {label}\n{body}\n-----END {label}\n")
    causes = await refused(registry, request=changed)
    assert [path for path, _ in causes] == ["spec.request"]
    assert causes[0][1].endswith(": x509: ECDSA verification failure")


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        ({"request": ""}, "spec.request", "PEM block type must be CERTIFICATE REQUEST"),
        ({"usages": []}, "spec.usages", "Required value"),
        ({"usages": ["fly"]}, "spec.usages[0]", "Unsupported value"),
        ({"usages": ["any", "any"]}, "spec.usages[1]", 'Duplicate value: "any"'),
        (
            {"signerName": "kubernetes.io/legacy-unknown"},
            "spec.signerName",
            "the legacy signerName is not allowed via this API version",
        ),
        ({"signerName": ""}, "spec.signerName", "Required value"),
        (
            {"signerName": "jane"},
            "spec.signerName",
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        (
            {"signerName": "local/x"},
            "spec.signerName",
            "should be a domain with at least two segments separated by dots",
        ),
        ({"signerName": "a.b/_"}, "spec.signerName", 'validating label "_": a lowercase RFC 1123'),
        (
            {"expirationSeconds": 599},
            "spec.expirationSeconds",
            "Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
        ),
    ],
)
async def test_what_is_wrong_is_told_with_its_path(registry, change, path, says):
    causes = await refused(registry, **change)
    assert [found for found, _ in causes] == [path]
    assert says in causes[0][1]


async def test_names_that_are_no_subdomains_are_fine(registry):
    await create(registry, name="node-csr-Ab_9:x")


async def test_nobody_asks_for_everybodys_master(registry):
    pem = certificates.make_csr("jane", ["system:masters"]).certificate
    with pytest.raises(Forbidden) as raised:
        await create(registry, **requests.spec(pem))
    assert raised.value.message == (
        'certificatesigningrequests.certificates.k8s.io "jane" is forbidden: use of '
        "kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    )
    await create(registry, **requests.spec(pem, "example.com/other"))


async def test_an_update_changes_neither_spec_nor_status(registry):
    made = await create(registry)
    wanted = {**made, "spec": requests.spec(), "status": {"conditions": [condition("Approved")]}}
    wanted["metadata"] = {**made["metadata"], "labels": {"a": "b"}}
    changed = await registry.update(KEY, wanted, options=JANE)
    assert changed["metadata"]["labels"] == {"a": "b"}
    assert (changed["spec"], changed["status"]) == (made["spec"], {})


async def test_approval_sets_conditions_with_their_times_and_metadata_only(registry):
    made = await create(registry)
    patch = {
        "metadata": {"annotations": {"a": "b"}},
        "spec": {"username": "x"},
        "status": {"conditions": [condition("Approved")]},
    }
    changed = await registry.patch(KEY, patch, subresource="approval", options=JANE)
    assert changed["metadata"]["annotations"] == {"a": "b"}
    assert changed["spec"] == made["spec"]
    (approved,) = changed["status"]["conditions"]
    assert approved["lastUpdateTime"] == approved["lastTransitionTime"]
    again = {**changed, "status": {**changed["status"], "certificate": CERTIFICATE}}
    again = await registry.update(KEY, again, subresource="approval", options=JANE)
    assert again["status"] == changed["status"]


async def test_a_condition_that_is_written_again_began_when_it_began(registry):
    await create(registry)
    then = "2020-01-01T00:00:00Z"
    first = condition("Ready", lastUpdateTime=then, lastTransitionTime=then)
    await set_conditions(registry, "status", first)
    changed = await set_conditions(registry, "status", condition("Ready", reason="Again"))
    (ready,) = changed["status"]["conditions"]
    assert ready["lastTransitionTime"] == then
    assert ready["lastUpdateTime"] != then


async def test_what_is_approved_is_not_denied_nor_undecided(registry):
    await create(registry)
    await set_conditions(registry, "approval", condition("Approved"))
    with pytest.raises(Invalid, match="Approved and Denied conditions are mutually exclusive"):
        await set_conditions(registry, "approval", condition("Approved"), condition("Denied"))
    for part in ("approval", "status"):
        with pytest.raises(Invalid, match='may not remove a condition of type "Approved"'):
            await set_conditions(registry, part)


@pytest.mark.parametrize(
    ("wrong", "path", "says"),
    [
        ({"type": "Approved", "status": "False"}, "status", "Unsupported value"),
        ({"type": "Other"}, "status", "Required value"),
        ({"status": "True"}, "type", "Required value"),
    ],
)
async def test_conditions_have_a_type_and_a_status(registry, wrong, path, says):
    await create(registry)
    with pytest.raises(Invalid) as raised:
        await set_conditions(registry, "approval", wrong)
    (cause,) = raised.value.details["causes"]
    assert cause["field"] == f"status.conditions[0].{path}"
    assert says in cause["message"]


async def test_a_signer_gives_one_certificate_and_approves_nothing(registry):
    await create(registry)
    with pytest.raises(Invalid, match='may not add a condition of type "Approved"'):
        await set_conditions(registry, "status", condition("Approved"))
    await set_conditions(registry, "approval", condition("Approved", reason="Known"))
    with pytest.raises(Invalid, match="must contain at least one CERTIFICATE PEM block"):
        await registry.patch(
            KEY, {"status": {"certificate": requests.encoded("x")}}, subresource="status"
        )
    kept = condition("Approved", reason="Mine")
    changed = await set_conditions(registry, "status", kept, certificate=CERTIFICATE)
    assert changed["status"]["certificate"] == CERTIFICATE
    assert changed["status"]["conditions"][0]["reason"] == "Known"
    other = requests.encoded(certificates.create_ca("b", days=1).certificate)
    with pytest.raises(Invalid, match="may not modify existing certificate content"):
        await registry.patch(KEY, {"status": {"certificate": other}}, subresource="status")


@pytest.mark.parametrize("name", [requests.CLIENT, "kubernetes.io/*"])
async def test_approving_and_signing_take_rights_on_the_signer(registry, name):
    guard(registry, ("approve", "kubernetes.io/kubelet-serving"), ("sign", "example.com/*"))
    await create(registry)
    for part, verb, kind in (("approval", "approve", "Approved"), ("status", "sign", "Failed")):
        with pytest.raises(Forbidden) as raised:
            await set_conditions(registry, part, condition(kind))
        assert raised.value.message.endswith(
            f'user not permitted to {verb} requests with signerName "{requests.CLIENT}"'
        )
    guard(registry, ("approve", name), ("sign", name))
    changed = await set_conditions(registry, "approval", condition("Approved"))
    conditions = [*changed["status"]["conditions"], condition("Failed")]
    await set_conditions(registry, "status", *conditions)


async def test_labels_of_a_request_are_changed_without_a_right_to_sign(registry):
    guard(registry)
    await create(registry)
    patch = {"metadata": {"labels": {"a": "b"}}}
    changed = await registry.patch(KEY, patch, subresource="status", options=JANE)
    assert changed["metadata"]["labels"] == {"a": "b"}


async def test_trust_bundles_take_a_right_on_their_signer(registry):
    ca = certificates.create_ca("a", days=1).certificate
    bundle = {
        "metadata": {"name": "example.com:x:y"},
        "spec": {"signerName": "example.com/x", "trustBundle": ca},
    }
    key = ObjectKey("certificates.k8s.io", "clustertrustbundles", "", "example.com:x:y")
    guard(registry)
    with pytest.raises(Forbidden, match='user not permitted to attest for signerName "example'):
        await registry.create(key, bundle, JANE)
    guard(registry, ("attest", "example.com/x"))
    await registry.create(key, bundle, JANE)
