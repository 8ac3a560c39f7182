# SPDX-License-Identifier: Apache-2.0
"""Why a volume cannot be had."""

from __future__ import annotations

from typing import ClassVar

from kedge.errors import KedgeError


class VolumeError(KedgeError):
    """A volume cannot be made; the message names it and what is missing."""

    reason: ClassVar[str] = "FailedMount"
    retryable: ClassVar[bool] = True


class AttachError(VolumeError):
    """A volume is not attached to this node, or the cloud does not know yet that it is in use here."""

    reason: ClassVar[str] = "FailedAttachVolume"
