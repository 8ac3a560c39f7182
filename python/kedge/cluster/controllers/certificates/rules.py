# SPDX-License-Identifier: Apache-2.0
"""What the signers of ``kubernetes.io`` sign, in upstream's words; and what of that is not signed here. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from kedge.api.certificate_requests import CertificateRequest

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
SIGNED = (CLIENT, KUBELET)
NODES, NODE_USER = "system:nodes", "system:node:"
DAY = 86_400
_CLIENT_AUTH = "client auth"
_OPTIONAL = ("digital signature", "key encipherment")
_OF_KUBELETS = (
    {_CLIENT_AUTH, "digital signature", "key encipherment"},
    {_CLIENT_AUTH, "digital signature"},
)


def complaint(signer: str, request: CertificateRequest, usages: Collection[str]) -> str:
    """Why a signer does not sign a request; empty when it does."""
    return kubelet(request, usages) if signer == KUBELET else client(usages)


def client(usages: Collection[str]) -> str:
    """Anybody's certificate to ask the API server with."""
    for usage in usages:
        if usage != _CLIENT_AUTH and usage not in _OPTIONAL:
            return f"invalid usage for client certificate: {usage}"
    if _CLIENT_AUTH not in usages:
        return f"missing required usage for client certificate: {_CLIENT_AUTH}"
    return ""


def kubelet(request: CertificateRequest, usages: Collection[str]) -> str:
    """A node's certificate to ask the API server with."""
    if request.organizations != (NODES,):
        return f"subject organization is not {NODES}"
    for what, found in (
        ("DNS", request.dns_names),
        ("Email", request.emails),
        ("IP", request.addresses),
        ("URI", request.uris),
    ):
        if found:
            return f"{what} subjectAltNames are not allowed"
    if not request.common_name.startswith(NODE_USER):
        return f"subject common name does not begin with {NODE_USER}"
    if set(usages) not in _OF_KUBELETS:
        return f"usages did not match [{' '.join(sorted(_OF_KUBELETS[0]))}]"
    return ""


def limit(request: CertificateRequest, seconds: int | None) -> str:
    """Why a request that its signer allows is not signed here: nothing is left out of it silently."""
    if not request.common_name:
        return "kedge signs for a common name, and the request has none"
    if len(request.organizations) > 1:
        return f"kedge signs for at most one organization, and the request has {len(request.organizations)}"
    if request.dns_names or request.emails or request.addresses or request.uris:
        return "kedge signs no client certificates with subjectAltNames"
    if seconds is not None and seconds < DAY:
        return f"kedge signs for a day or longer, and expirationSeconds is {seconds}"
    return ""
