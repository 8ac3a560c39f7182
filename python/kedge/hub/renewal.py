# SPDX-License-Identifier: Apache-2.0
"""Renews a node's certificate over its own link, at half its life, without dropping the link.

The key stays, so that what changes on the disk is one file, replaced atomically: a crash leaves the
old certificate or the new one, and both belong to the key. The link that is up goes on; the next
connection uses the new certificate. While the cloud is away or refuses, it is asked again; the
certificate has the other half of its life for that.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING

from kedge.aio import Backoff
from kedge.errors import CertificateError, HubError, KedgeError
from kedge.files import keep_names, write_whole
from kedge.hub import certificates

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kedge.hub.client import HubClient

log = logging.getLogger(__name__)

METHOD = "certificate/renew"
LONGEST_SLEEP_SECONDS = 3600.0
"""A clock may jump: it is looked at again this often."""
RETRY_BASE_SECONDS = 60.0
RETRY_CAP_SECONDS = 3600.0


class CertificateRenewal:
    """Keeps the certificate in a directory (``node.crt``, ``node.key``) fresh.

    Args:
        client: the link.
        directory: where the files are.
        clock: seconds since 1970.
        backoff: between attempts that failed.
    """

    def __init__(
        self,
        client: HubClient,
        directory: Path,
        *,
        clock: Callable[[], float] = time.time,
        backoff: Backoff | None = None,
    ) -> None:
        self._client = client
        self._certificate = directory / "node.crt"
        self._key = directory / "node.key"
        self._clock = clock
        self._backoff = backoff or Backoff(RETRY_BASE_SECONDS, RETRY_CAP_SECONDS)

    async def run(self) -> None:
        """Renews whenever half of the certificate's life is over, until cancelled."""
        while True:
            wait = self._read()[1].renew_at() - self._clock()
            if wait > 0:
                await asyncio.sleep(min(wait, LONGEST_SLEEP_SECONDS))
                continue
            await self._client.connected()
            try:
                await self.renew()
            except KedgeError as error:
                wait = self._backoff.next_seconds()
                log.warning("certificate not renewed cause=%s retry_in=%.0fs", error, wait)
                await asyncio.sleep(wait)
            else:
                self._backoff.reset()

    async def renew(self) -> None:
        """Asks for a new certificate now, keeps it and uses it.

        Raises:
            HubError: the cloud is away or refused.
            CertificateError: what came back is not a certificate of this node for its key.
        """
        pair, old = self._read()
        request = certificates.make_csr(old.common_name, old.organizations, key=pair.key)
        body = json.dumps({"csr": request.certificate}).encode()
        answer = await self._client.request(METHOD, body)
        try:
            certificate = str(json.loads(answer)["certificate"])
        except (ValueError, KeyError, TypeError) as error:
            raise HubError(
                f"{METHOD}: wanted JSON with certificate, got: {answer[:80]!r}"
            ) from error
        new = certificates.inspect(certificate)
        if new.common_name != old.common_name or not certificates.same_key(certificate, pair.key):
            raise CertificateError(
                f"{METHOD}: the certificate is for another node or key: {new.common_name}"
            )
        if new.not_after <= old.not_after:
            raise CertificateError(
                f"{METHOD}: the certificate does not last longer than the old one"
            )
        write_whole(self._certificate, certificate, 0o644)
        keep_names(self._certificate.parent)
        self._client.set_certificate(certificates.Pair(certificate, pair.key))
        log.info("certificate renewed serial=%s", new.serial)

    def _read(self) -> tuple[certificates.Pair, certificates.Details]:
        certificate = self._certificate.read_text(encoding="ascii")
        key = self._key.read_text(encoding="ascii")
        return certificates.Pair(certificate, key), certificates.inspect(certificate)
