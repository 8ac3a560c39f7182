# SPDX-License-Identifier: Apache-2.0
"""The face of the extension's runtime: one per process, built by the role, closed last."""

from __future__ import annotations

from kedge._core import (  # noqa: TID251 - this file is the face of _core.Runtime
    VERSION,
    Runtime,
    release_code,
)

__all__ = ["VERSION", "Runtime", "release_code"]
