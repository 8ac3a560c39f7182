# SPDX-License-Identifier: Apache-2.0
"""The machine is about to go down: pods end in an order, each with time for it, before it does.

logind is asked to wait (``systemd-inhibit`` holds the lock for as long as its child listens to
logind's signals), or somebody sends SIGPWR. Pods that are to run always are stopped, not failed: a node
at the edge comes back without its cloud, and they with it. Plain SIGTERM of the agent touches no pod.
Loaded when it is configured or asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pod.state import Ended

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.edge.kubelet.events import Recorder
    from kedge.edge.kubelet.node.node import NodeReporter
    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.kubelet.pods import Pods
    from kedge.edge.kubelet.worker import PodWorker

MESSAGE = "Pod was terminated in response to imminent node shutdown."
NOT_READY = "node is shutting down"
ASKED_SECONDS, ASKED_CRITICAL_SECONDS = 30, 10
"""When somebody asks for it on a node without settings for it."""
POLL_SECONDS = 0.1
QUIT_SECONDS = 2.0
RETRY_SECONDS = 60.0
SYSTEMD = Path("/run/systemd/system")
_LOGIND = (
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
)

_log = logging.getLogger(__name__)


class Group(NamedTuple):
    """Pods that end together, and how long they have."""

    seconds: int
    uids: tuple[str, ...]


def groups(pods: Iterable[Pod], seconds: int, critical_seconds: int) -> list[Group]:
    """The order of a shutdown: ordinary pods, then critical ones in what is left for them.

    Args:
        pods: all that run.
        seconds: for all of it.
        critical_seconds: the part of it that is kept for critical pods.
    """
    ordinary: list[str] = []
    critical: list[str] = []
    for pod in pods:
        is_critical = int(pod["spec"].get("priority") or 0) >= lifecycle.SYSTEM_CRITICAL_PRIORITY
        (critical if is_critical else ordinary).append(pod["metadata"]["uid"])
    first = Group(max(0, seconds - critical_seconds), tuple(ordinary))
    second = Group(min(seconds, critical_seconds), tuple(critical))
    return [one for one in (first, second) if one.uids]


def ended(pod: Pod, seconds: int) -> Ended:
    """How a pod ends: one that is to run always starts again after the boot, others have failed."""
    is_final = (pod["spec"].get("restartPolicy") or "Always") != "Always"
    return Ended("Terminated", MESSAGE, seconds, is_final=is_final, is_disruption=is_final)


class Shutdown:
    """Ends the node's pods once.

    Args:
        seconds: for all pods; 0 for the default of who asks.
        critical_seconds: the part of it that is kept for critical pods.
        pods: all of them.
        node: told that it is not ready.
        recorder: records the Event.
    """

    def __init__(
        self,
        seconds: int,
        critical_seconds: int,
        pods: Pods,
        node: NodeReporter,
        recorder: Recorder,
    ) -> None:
        self._seconds = seconds or ASKED_SECONDS
        self._critical = critical_seconds if seconds else ASKED_CRITICAL_SECONDS
        self._pods = pods
        self._node = node
        self._recorder = recorder
        self.is_on = False

    async def end_pods(self) -> None:
        """Ends them group by group; returns when all are gone or their time is over."""
        if self.is_on:
            return
        self.is_on = True
        _log.warning("the machine shuts down: ending pods seconds=%d", self._seconds)
        self._recorder.node("Shutdown", "Shutdown manager detected shutdown event")
        self._node.closing = NOT_READY
        self._node.report_now()
        self._pods.held = Ended("Terminated", MESSAGE, 0, is_final=False, is_disruption=False)
        running = {one.uid: one for one in self._pods.workers() if one.ended is None}
        for group in groups([one.pod for one in running.values()], self._seconds, self._critical):
            workers = [running[uid] for uid in group.uids]
            for one in workers:
                one.end(ended(one.pod, group.seconds))
            await self._wait(workers, group.seconds)
        _log.warning("pods have ended for the shutdown")

    async def _wait(self, workers: list[PodWorker], seconds: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds + 1):
                while not all(one.has_stopped() for one in workers):  # noqa: ASYNC110 - many to wait for
                    await asyncio.sleep(POLL_SECONDS)

    def cancel(self) -> None:
        """The machine stays up after all: what is to run always runs again."""
        if not self.is_on:
            return
        _log.warning("the shutdown was called off")
        self.is_on = False
        self._node.closing = ""
        self._node.report_now()
        self._pods.held = None
        for one in self._pods.workers():
            one.resume()

    # logind

    async def listen(self) -> None:
        """Asks logind to wait, and follows what it says, until cancelled."""
        if not has_systemd():
            self._say("shutdownGracePeriodSeconds needs systemd-logind, or SIGPWR for the agent")
            return
        await self._check_delay()
        while True:
            try:
                await self._follow()
            except (OSError, ValueError) as error:
                self._say(f"logind cannot be followed: {error}")
            await asyncio.sleep(RETRY_SECONDS)

    def _say(self, text: str) -> None:
        _log.warning("%s", text)
        self._recorder.node("GracefulShutdownUnavailable", text, warning=True)

    async def _check_delay(self) -> None:
        """Logind waits 5 s by default, whatever we ask for."""
        words = ["busctl", "--json=short", "get-property", *_LOGIND, "InhibitDelayMaxUSec"]
        try:
            process = await asyncio.create_subprocess_exec(
                *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
            out, _ = await process.communicate()
            most = int(json.loads(out)["data"]) // 10**6
        except (OSError, ValueError, KeyError, TypeError):
            return
        if most < self._seconds:
            self._say(
                f"logind waits {most} s for a shutdown and {self._seconds} s are wanted: set "
                f"InhibitDelayMaxSec={self._seconds} in /etc/systemd/logind.conf.d"
            )

    async def _follow(self) -> None:
        """One lock: taken, kept until the pods have ended, given back with the process."""
        match = f"type='signal',interface='{_LOGIND[2]}',member='PrepareForShutdown'"
        process = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig", "TERM",
            "systemd-inhibit", "--what=shutdown", "--mode=delay", "--who=kedge",
            "--why=pods need time to end",
            "busctl", "--system", "--json=short", "monitor", f"--match={match}",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert process.stdout is not None  # noqa: S101 - it was asked for
            while line := await process.stdout.readline():
                begins = prepares(line)
                if begins:
                    await self.end_pods()
                    return
                if begins is False:
                    self.cancel()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            # To the end of its output, so that nothing of the pipe is left behind it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIT_SECONDS):
                    await process.communicate()


def has_systemd() -> bool:
    """Whether systemd runs this machine."""
    return SYSTEMD.is_dir()


def prepares(line: bytes) -> bool | None:
    """What a signal of logind says: a shutdown begins, was called off, or something else."""
    try:
        message = json.loads(line)
        if message.get("member") != "PrepareForShutdown":
            return None
        (begins,) = message["payload"]["data"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return begins is True
