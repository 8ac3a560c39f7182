# SPDX-License-Identifier: Apache-2.0
"""Trust anchors of ClusterTrustBundles, chosen by name or by signer and labels; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import selectors
from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.volumes.errors import VolumeError

if TYPE_CHECKING:
    from kedge.edge.kubelet.objects import Objects

KIND = ("certificates.k8s.io", "clustertrustbundles")
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def anchors(source: dict[str, Any], objects: Objects) -> bytes:
    """The certificates, each once; nothing when there are none and they are optional.

    Raises:
        VolumeError: there are none, and they are not optional.
    """
    name, signer = source.get("name") or "", source.get("signerName") or ""
    if name:
        found = objects.get(ObjectKey(*KIND, "", name))
        bundles = [] if found is None else [found]
        missing = f'clustertrustbundle "{name}" not found'
    else:
        bundles = [one for one in objects.list(*KIND, "") if _is_chosen(one, signer, source)]
        missing = f'no clustertrustbundle of signer "{signer}" matches the label selector'
    certificates: dict[str, None] = {}
    for bundle in sorted(bundles, key=lambda one: str(one["metadata"]["name"])):
        certificates.update(dict.fromkeys(_blocks(bundle["spec"].get("trustBundle") or "")))
    if not certificates and not source.get("optional"):
        raise VolumeError(missing)
    return "".join(certificates).encode()


def _is_chosen(bundle: dict[str, Any], signer: str, source: dict[str, Any]) -> bool:
    if bundle["spec"].get("signerName") != signer:
        return False
    return selectors.matches(source.get("labelSelector"), bundle["metadata"].get("labels"))


def _blocks(text: str) -> list[str]:
    """The certificates of a PEM text, without what stands between them."""
    found = []
    for part in text.split(_BEGIN)[1:]:
        body, end, _ = part.partition(_END)
        if end:
            lines = "\n".join(line.strip() for line in body.strip().splitlines())
            found.append(f"{_BEGIN}\n{lines}\n{_END}\n")
    return found
