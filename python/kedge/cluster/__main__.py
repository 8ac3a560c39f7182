# SPDX-License-Identifier: Apache-2.0
"""``python -m kedge.cluster``: settings, logs, signals; ``app`` does the rest."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from contextlib import suppress

import uvloop

from kedge import config, logs
from kedge.cluster import app
from kedge.cluster.config import ClusterConfig
from kedge.errors import ConfigError, KedgeError
from kedge.runtime import Runtime

GARBAGE_THRESHOLDS = (20_000, 10, 20)
"""How many objects are made between two looks for cycles; thousands of long-lived records make each dear."""


def main(argv: list[str] | None = None) -> int:
    """Runs the cluster until SIGTERM or SIGINT; the exit status."""
    parser = config.parser(
        ClusterConfig,
        "python -m kedge.cluster",
        "The embedded Kubernetes control plane: API server, controllers and scheduler in one process.",
    )
    try:
        settings = config.from_flags(ClusterConfig, parser.parse_args(argv))
        logs.setup(settings.log_level)
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signal(settings))
    except (KedgeError, BaseExceptionGroup) as error:
        return _explain(error)
    return 0


async def _until_signal(settings: ClusterConfig) -> None:
    runtime = Runtime()
    loop = asyncio.get_running_loop()
    try:
        with suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(app.serve(settings, runtime))
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(number, serving.cancel)
    finally:
        runtime.close()


def _explain(error: BaseException) -> int:
    """One line for what is expected to go wrong; a trace for a defect of ours."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, KedgeError):
        raise error
    sys.stderr.write(f"kedge.cluster: error: {error}\n")
    return config.EXIT_CONFIG if isinstance(error, ConfigError) else 1


if __name__ == "__main__":
    sys.exit(main())
