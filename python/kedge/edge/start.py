# SPDX-License-Identifier: Apache-2.0
"""The first step of ``python -m kedge.edge``: reads the settings and becomes the second."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, replace

from kedge import config
from kedge.edge.config import EdgeConfig
from kedge.errors import ConfigError


def replace_self(arguments: list[str], flag: str) -> int:  # noqa: RET503 - execv does not return
    """Replaces this process with one that has the settings and nothing that was needed to read them."""
    parser = config.parser(
        EdgeConfig,
        "python -m kedge.edge",
        "A node's agent: runs its pods, with or without the cloud.",
    )
    try:
        settings = config.from_flags(EdgeConfig, parser.parse_args(arguments))
    except ConfigError as error:
        sys.stderr.write(f"kedge.edge: {error}\n")
        return config.EXIT_CONFIG
    settings = replace(
        settings,
        node_name=settings.node_name or platform.node().lower(),
        data_dir=settings.data_dir.absolute(),
        log_level=settings.log_level or config.environment(config.ENV_LOG_LEVEL, "INFO"),
    )
    command = [sys.executable, "-m", "kedge.edge", flag, encode(settings)]
    os.execv(sys.executable, command)  # noqa: S606 - this very program, without a shell


def encode(settings: EdgeConfig) -> str:
    """The settings as JSON."""
    return json.dumps(asdict(settings), default=str, separators=(",", ":"))
