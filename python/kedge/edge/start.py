# SPDX-License-Identifier: Apache-2.0
"""The first step of ``python -m kedge.edge``: reads the settings and becomes the second."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

from kedge import config
from kedge.edge.config import EdgeConfig
from kedge.edge.metaserver import documents
from kedge.errors import ConfigError

COMPILE_SECONDS = 60.0


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
    if settings.metaserver:
        try:
            documents.write(settings.data_dir / "metaserver", settings.metaserver_listen)
        except OSError as error:
            sys.stderr.write(f"kedge.edge: {error}\n")
            return 1
    command = [sys.executable, *_optimized(), "-m", "kedge.edge", flag, encode(settings)]
    os.execv(sys.executable, command)  # noqa: S606 - this very program, without a shell


def _optimized() -> list[str]:
    """The flag that drops docstrings, 0.8 MB of the agent, if its bytecode is or can be cached.

    Compiling in the agent would cost more memory than it saves; so a throw-away process does it, once.
    """
    agent = str(Path(__file__).with_name("agent.py"))
    cached = Path(importlib.util.cache_from_source(agent, optimization=2))
    if not cached.exists() and not sys.dont_write_bytecode:
        program = "from kedge.edge import slim; slim.install(); import kedge.edge.agent"
        command = [sys.executable, "-OO", "-c", program]
        subprocess.run(command, check=False, timeout=COMPILE_SECONDS)  # noqa: S603 - this very program
    return ["-OO"] if cached.exists() else []


def encode(settings: EdgeConfig) -> str:
    """The settings as JSON."""
    return json.dumps(asdict(settings), default=str, separators=(",", ":"))
