# SPDX-License-Identifier: Apache-2.0
"""CertificateSigningRequests, and requests in PEM that other programs made."""

from __future__ import annotations

import base64
from typing import Any

from kedge.hub import certificates

WITH_NAMES = """-----BEGIN CERTIFICATE REQUEST-----
MIIBXTCCAQMCAQAwNDEVMBMGA1UECgwMc3lzdGVtOm5vZGVzMRswGQYDVQQDDBJz
eXN0ZW06bm9kZTplZGdlLTEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATS3FIL
AsnY4bKE9RI0T7e/RVNFm5qZN0jtuHRklOJbyQ0jDOtWdjJaKOBMewK1Tpmv7It8
ZZ8nFIj4FFcl9uAhoG0wawYJKoZIhvcNAQkOMV4wXDBaBgNVHREEUzBRggZlZGdl
LTGCEmVkZ2UtMS5leGFtcGxlLmNvbYcECgAAB4cQ/QAAAAAAAAAAAAAAAAAAB4EN
YUBleGFtcGxlLmNvbYYMc3BpZmZlOi8veC95MAoGCCqGSM49BAMCA0gAMEUCIQCi
fgLwAYFFmWEOLvYyBZbKujOU2GkzbULQZDmVnA7tsAIgXhjJlZ7WCYuWMkuYJFsK
z5mfNAsK6CgUs/YadtgaDr0=
-----END CERTIFICATE REQUEST-----
"""
"""OpenSSL's, with every kind of alternative name."""
CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def spec(pem: str = "", signer: str = CLIENT, **more: Any) -> dict[str, Any]:
    """What somebody asks for; with a new key unless a request is given."""
    pem = pem or certificates.make_csr("jane", ["dev"]).certificate
    return {"request": encoded(pem), "signerName": signer, "usages": ["client auth"], **more}


def of_node(name: str = "edge-1", **more: Any) -> dict[str, Any]:
    """What a kubelet asks for."""
    pem = certificates.make_csr(f"system:node:{name}", ["system:nodes"]).certificate
    return {**spec(pem, KUBELET, usages=["client auth", "digital signature"]), **more}


def condition(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": "True", **more}
