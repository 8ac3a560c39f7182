# SPDX-License-Identifier: Apache-2.0
"""Rules of CertificateSigningRequests; their signatures are checked where the key material is."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from kedge.api import certificate_requests, names

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

GROUP = "certificates.k8s.io"
LEGACY_SIGNER = "kubernetes.io/legacy-unknown"
APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
MIN_SECONDS = 600
_CONDITIONS = "status.conditions"
_MAX_DOMAIN = 253
_MAX_SIGNER = 571
_USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip


def validate(obj: Object, problems: Problems) -> None:
    """The request can be read, its signer named, and its usages are known ones."""
    spec = obj.get("spec", {})
    request = spec.get("request", "")
    try:
        certificate_requests.read(base64.b64decode(request))
    except ValueError as error:
        problems.invalid("spec.request", request, str(error))
    usages = spec.get("usages") or []
    if not usages:
        problems.required("spec.usages")
    for index, usage in enumerate(usages):
        problems.choice(f"spec.usages[{index}]", usage, _USAGES)
    for index, usage in enumerate(usages):
        if usage in usages[:index]:
            problems.duplicate(f"spec.usages[{index}]", usage)
    signer = spec.get("signerName", "")
    if signer == LEGACY_SIGNER:
        detail = "the legacy signerName is not allowed via this API version"
        problems.invalid("spec.signerName", signer, detail)
    else:
        signer_name("spec.signerName", signer, problems)
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < MIN_SECONDS:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        problems.invalid("spec.expirationSeconds", seconds, detail)


def signer_name(path: str, name: str, problems: Problems) -> None:
    """A domain and a path: ``example.com/signer``."""
    if not name:
        problems.required(path)
        return
    domain, slash, rest = name.partition("/")
    if not slash or "/" in rest:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        problems.invalid(path, name, detail)
        return
    if len(domain) > _MAX_DOMAIN:
        problems.too_long(path, _MAX_DOMAIN)
    _labels(path, domain, names.label, problems)
    if "." not in domain:
        detail = "should be a domain with at least two segments separated by dots"
        problems.invalid(path, domain, detail)
    _labels(path, rest, names.subdomain, problems)
    if len(name) > _MAX_SIGNER:
        problems.too_long(path, _MAX_SIGNER)


def _labels(path: str, segment: str, rule: Any, problems: Problems) -> None:
    for label in segment.split("."):
        if complaint := rule(label):
            problems.invalid(path, segment, f'validating label "{label}": {complaint}')
            return


def validate_approval(new: Object, old: Object, problems: Problems) -> None:
    """Approves or denies: never both, and never back."""
    _conditions(new, old, problems)
    _kept(new, old, problems)


def validate_status(new: Object, old: Object, problems: Problems) -> None:
    """Gives a certificate, once; whether it was approved is not said here."""
    _conditions(new, old, problems)
    given, before = _certificate(new), _certificate(old)
    if given and given != before:
        try:
            certificate_requests.check_certificates(base64.b64decode(given))
        except ValueError as error:
            problems.invalid("status.certificate", "<certificate data>", str(error))
    _kept(new, old, problems)
    for kind in (APPROVED, DENIED):
        now, then = _of_type(new, kind), _of_type(old, kind)
        if len(now) > len(then):
            problems.forbidden(_CONDITIONS, f'updates may not add a condition of type "{kind}"')
        elif len(now) == len(then) and now != then:
            problems.forbidden(_CONDITIONS, f'updates may not modify a condition of type "{kind}"')
    if before and given != before:
        detail = "updates may not modify existing certificate content"
        problems.forbidden("status.certificate", detail)


def _conditions(new: Object, old: Object, problems: Problems) -> None:
    """Types and statuses; what was wrong before is let be."""
    types_before = [one.get("type", "") for one in _all(old)]
    both_before = APPROVED in types_before and DENIED in types_before
    twice_before = len(set(types_before)) != len(types_before)
    seen: list[str] = []
    for index, condition in enumerate(_all(new)):
        path, kind = f"{_CONDITIONS}[{index}]", condition.get("type", "")
        if not kind and "" not in types_before:
            problems.required(f"{path}.type")
        only_true = kind in (APPROVED, DENIED, FAILED)
        allowed = ("True",) if only_true else ("False", "True", "Unknown")
        problems.choice(f"{path}.status", condition.get("status"), allowed)
        other = {APPROVED: DENIED, DENIED: APPROVED}.get(kind)
        if other in seen and not both_before:
            detail = "Approved and Denied conditions are mutually exclusive"
            problems.invalid(f"{path}.type", kind, detail)
        if kind in seen and not twice_before:
            problems.duplicate(f"{path}.type", kind)
        seen.append(kind)


def _kept(new: Object, old: Object, problems: Problems) -> None:
    for kind in (APPROVED, DENIED, FAILED):
        if len(_of_type(new, kind)) < len(_of_type(old, kind)):
            problems.forbidden(_CONDITIONS, f'updates may not remove a condition of type "{kind}"')


def _all(obj: Object) -> list[Object]:
    return (obj.get("status") or {}).get("conditions") or []


def _of_type(obj: Object, kind: str) -> list[Object]:
    return [one for one in _all(obj) if one.get("type") == kind]


def _certificate(obj: Object) -> str:
    text: str = (obj.get("status") or {}).get("certificate") or ""
    return text
