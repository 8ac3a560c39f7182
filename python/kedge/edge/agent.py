# SPDX-License-Identifier: Apache-2.0
"""The second step of ``python -m kedge.edge``: runs the agent until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path

from kedge import logs
from kedge.edge import app
from kedge.edge.config import EdgeConfig
from kedge.errors import ConfigError, KedgeError
from kedge.runtime import Runtime

TOKIO_WORKERS = 1
EXIT_CONFIG = 78


def run(settings: str) -> int:
    """Runs the agent; the exit status."""
    config = decode(settings)
    logs.setup(config.log_level)
    try:
        app.prepare(config)
        asyncio.run(_until_signal(config))
    except (KedgeError, OSError, BaseExceptionGroup) as error:
        return _explain(error)
    return 0


def decode(text: str) -> EdgeConfig:
    """The settings; they were checked before they were encoded."""
    values = json.loads(text)
    for name in ("data_dir", "logs_dir", "resolv_conf"):
        values[name] = Path(values[name])
    for name in ("cluster_dns", "node_taints", "allowed_unsafe_sysctls", "pod_cidr"):
        values[name] = tuple(values[name])
    return EdgeConfig(**values)


async def _until_signal(config: EdgeConfig) -> None:
    runtime = Runtime(TOKIO_WORKERS)
    loop = asyncio.get_running_loop()
    try:
        with suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(app.serve(config, runtime))
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(number, serving.cancel)
    finally:
        runtime.close()


def _explain(error: BaseException) -> int:
    """One line for what is expected to go wrong; a trace for a defect of ours."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, KedgeError | OSError):
        raise error
    sys.stderr.write(f"kedge.edge: {error}\n")
    return EXIT_CONFIG if isinstance(error, ConfigError) else 1
