# SPDX-License-Identifier: Apache-2.0
"""CertificateSubjectRestriction: nobody gets a certificate of the group that may do everything."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from kedge.api import certificate_requests
from kedge.cluster.apiserver import signing_requests
from kedge.cluster.apiserver.admission.write import Plugin, Write

if TYPE_CHECKING:
    from kedge.api.kinds import Kind

CLIENTS = "kubernetes.io/kube-apiserver-client"
MASTERS = "system:masters"


class CertificateSubjectRestriction(Plugin):
    """The plugin."""

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a request for a certificate."""
        return signing_requests.is_one(kind) and not subresource

    async def validate(self, write: Write) -> None:
        """Looks at whom the certificate would be for.

        Raises:
            Forbidden: for everybody's master.
        """
        spec = write.obj["spec"]
        if spec.get("signerName") != CLIENTS:
            return
        request = certificate_requests.read(base64.b64decode(spec["request"]))
        if MASTERS in request.organizations:
            why = f"use of {CLIENTS} signer with {MASTERS} group is not allowed"
            raise write.forbidden(why)
