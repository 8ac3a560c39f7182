# SPDX-License-Identifier: Apache-2.0
"""What is done in the name of a signer takes a right of its own: CertificateApproval, CertificateSigning, ClusterTrustBundleAttest.

The rights are verbs on the resource ``signers``, which exists only to be named in roles: for a signer by its name, or for
all of its domain by ``DOMAIN/*``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.cluster.apiserver import failures
from kedge.cluster.apiserver.access import About
from kedge.cluster.apiserver.signing_requests import GROUP, is_one

if TYPE_CHECKING:
    from kedge.api.kinds import Kind
    from kedge.cluster.apiserver.access import Access, User

Object = dict[str, Any]


class Signers:
    """Refuses what a user may not do for a signer.

    Args:
        access: who has what.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    def check(
        self, kind: Kind, new: Object, old: Object | None, user: User, subresource: str
    ) -> None:
        """Checks a write of something that is a signer's.

        Raises:
            Forbidden: the user has no such right.
        """
        if kind.group != GROUP:
            return
        if kind.resource == "clustertrustbundles":
            signer = new.get("spec", {}).get("signerName", "")
            if signer and (old is None or old.get("spec") != new.get("spec")):
                self._need(kind, new, user, "attest", f"attest for signerName {_quoted(signer)}")
            return
        if old is None or not is_one(kind):
            return
        signer = old["spec"].get("signerName", "")
        if subresource == "approval":
            what = f"approve requests with signerName {_quoted(signer)}"
            self._need(kind, old, user, "approve", what)
        elif subresource == "status" and new.get("status") != old.get("status"):
            what = f"sign requests with signerName {_quoted(signer)}"
            self._need(kind, old, user, "sign", what)

    def _need(self, kind: Kind, obj: Object, user: User, verb: str, what: str) -> None:
        signer = obj["spec"]["signerName"]
        domain = signer.partition("/")[0]
        for name in (signer, f"{domain}/*"):
            if self._access.allows(user, verb, About(GROUP, "signers", name=name)):
                return
        raise failures.forbidden(kind, obj["metadata"]["name"], f"user not permitted to {what}")


def _quoted(name: str) -> str:
    return f'"{name}"'
