# SPDX-License-Identifier: Apache-2.0
"""Child processes of tests, the demo and the benches: started, watched, killed by id, and their logs kept."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def environment() -> dict[str, str]:
    """The environment of our children: this checkout's package, bytecode allowed."""
    mine = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    mine["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY / "python"), str(REPOSITORY)])
    return mine


class Process:
    """A child in a session of its own; ``arguments`` go to this Python unless ``program`` is given."""

    def __init__(self, arguments: list[str], *, log: Path, program: str = sys.executable) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.arguments = [program, *arguments]
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    def kill(self) -> None:
        """SIGKILL, as a crash would, and waits for the end; its children are left to themselves."""
        if self.is_running():
            os.kill(self.pid, signal.SIGKILL)
        self._child.wait(10)

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM, then SIGKILL for it and its session if it does not end in time; the exit status."""
        if self.is_running():
            os.kill(self.pid, signal.SIGTERM)
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
        return self._child.wait(10)

    def tail(self, lines: int = 30) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def kedge(*words: str, log: Path) -> Process:
    """Starts a ``kedge`` command in the background."""
    return Process(["-m", "kedge.ctl", *words], log=log)


def python_module(module: str, *words: str, check: bool = True, seconds: float = 60) -> str:
    """Runs ``python -m module`` to its end; its standard output."""
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, env=environment(), check=False
    )
    if check and done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


def children(pid: int) -> list[int]:
    """The processes below one, at any depth."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


def wait_until(
    check: Callable[[], T | None],
    seconds: float,
    what: str,
    *,
    poll: float = 0.1,
    alive: Process | None = None,
) -> T:
    """Asks again and again until ``check`` gives something true; that.

    Args:
        check: asked at once, then every ``poll`` seconds.
        seconds: the time allowed.
        what: for the error.
        poll: seconds between two questions.
        alive: a process that must not end meanwhile.

    Raises:
        TimeoutError: it did not come in time, or the process ended.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if alive is not None and not alive.is_running():
            raise TimeoutError(f"waiting until {what}: the process ended:\n{alive.tail()}")
        if time.monotonic() > deadline:
            hint = f":\n{alive.tail()}" if alive is not None else ""
            raise TimeoutError(f"waited {seconds} s until {what}{hint}")
        time.sleep(poll)
