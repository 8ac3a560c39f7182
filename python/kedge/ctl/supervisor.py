# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PTH103, PTH105, PTH110
"""``kedge up`` after its checks: starts the roles, restarts them, ends them in order.

It stays for as long as kedge runs, so it is small: the standard library's basics, no asyncio, no TLS,
no pathlib (a tenth of its memory), nothing of kedge's. What needs more (waiting for readiness, joining the local node) is done by
``kedge.ctl.bootstrap``, a child that ends. A role starts when the file it needs is there, and again
when it dies, sooner or later depending on how often it did. Children get SIGTERM when this process
dies in whatever way. Their output goes to ``DIR/logs``, limited in size; warnings are shown.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time

FIRST_DELAY_SECONDS = 0.2
LAST_DELAY_SECONDS = 10.0
STEADY_SECONDS = 30.0
"""Who ran that long starts again without delay."""
MAX_EARLY_DEATHS = 5
"""A role that dies so often before the first readiness ends the whole."""
STOP_SECONDS = 15.0
LOG_BYTES = 8 << 20
POLL_SECONDS = 0.05
EXIT_CONFIG = 78
PR_SET_PDEATHSIG = 1
SHOWN = (b" WARNING ", b" ERROR ", b" CRITICAL ", b"Error: ", b"error: ")


class Log:
    """A file that starts again at ``LOG_BYTES``; the one before is kept as ``.1``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._open()

    def write(self, data: bytes) -> None:
        """Adds to the file; a full disk loses log lines and nothing else."""
        with contextlib.suppress(OSError):
            if self._size + len(data) > LOG_BYTES:
                os.replace(self._path, self._path + ".1")
                os.close(self._file)
                self._open()
            self._size += os.write(self._file, data)

    def _open(self) -> None:
        self._file = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._size = os.fstat(self._file).st_size


class Child:
    """One role: how it starts, and how often it died.

    Args:
        name: for people and for the log.
        arguments: of this Python.
        needs: a file that must be there first; empty for none.
        log_dir: where its output goes.
        once: whether it is to end by itself.
    """

    def __init__(
        self, name: str, arguments: list[str], needs: str, log_dir: str, *, once: bool = False
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.needs = needs
        self.once = once
        self.pid = 0
        self.output = -1
        self.deaths = 0
        self.last_line = ""
        self._log = Log(f"{log_dir}/{name}.log")
        self._rest = b""
        self._started = 0.0
        self._due = 0.0

    def is_due(self, now: float) -> bool:
        """Whether it is to be started now."""
        return not self.pid and now >= self._due and (not self.needs or os.path.exists(self.needs))

    def start(self, now: float) -> None:
        """Starts it; its output comes through a pipe, unless it speaks to the terminal itself."""
        parent = os.getpid()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            _become(self.arguments, -1 if self.once else writer, parent)
        os.close(writer)
        self.pid, self.output, self._started = pid, reader, now

    def read(self) -> bool:
        """Takes what the pipe holds; False at its end."""
        data = os.read(self.output, 65536)
        if not data:
            return False
        self._log.write(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-4096:]
        for line in lines:
            if line.strip():
                self.last_line = line.decode(errors="replace")
            if any(mark in line for mark in SHOWN):
                say(f"[{self.name}] {line.decode(errors='replace')}")
        return True

    def ended(self, now: float) -> float:
        """Takes note of its end; in how many seconds it starts again."""
        with contextlib.suppress(OSError):
            os.set_blocking(self.output, False)
            while self.read():
                pass
        os.close(self.output)
        self.pid, self.output = 0, -1
        self.deaths = 0 if now - self._started > STEADY_SECONDS else self.deaths + 1
        delay = 0.0
        if self.deaths:
            delay = min(LAST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** (self.deaths - 1))
        self._due = now + delay
        return delay

    def signal(self, number: int) -> None:
        """Sends it a signal, if it runs."""
        if self.pid:
            os.kill(self.pid, number)


class Supervisor:
    """Keeps the roles running until told to stop.

    Args:
        roles: in the order of their start; they are ended in reverse.
        bootstrap: the child that makes everything usable, once.
    """

    def __init__(self, roles: list[Child], bootstrap: Child) -> None:
        self._roles = roles
        self._bootstrap = bootstrap
        self._ready = False
        self._stop_signals = 0
        self._wake, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)

    def run(self) -> int:
        """Runs until a signal; the exit status."""
        problem = ""
        while not self._stop_signals and not problem:
            now = time.monotonic()
            waiting = [role for role in self._all() if not role.pid]
            for child in waiting:
                if child.is_due(now) and not (child.once and self._ready):
                    child.start(now)
            polling = any(not role.pid for role in self._roles)
            self._read(POLL_SECONDS if polling else None)
            problem = self._reap()
        if problem:
            say(problem)
        self._end()
        return 1 if problem else 0

    def _all(self) -> list[Child]:
        return [*self._roles, self._bootstrap]

    def _stop(self, _number: int, _frame: object) -> None:
        self._stop_signals += 1
        if self._stop_signals > 1:
            for child in self._all():
                child.signal(signal.SIGKILL)

    def _read(self, timeout: float | None) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        by_output = {child.output: child for child in self._all() if child.output >= 0}
        for output in by_output:
            poll.register(output, select.POLLIN)
        for descriptor, _ in poll.poll(None if timeout is None else timeout * 1000):
            if descriptor == self._wake:
                os.read(self._wake, 512)
            elif not by_output[descriptor].read():
                time.sleep(POLL_SECONDS)  # it closed its output and is about to end

    def _reap(self) -> str:
        """Takes note of ends; a problem that cannot be helped, or nothing."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ""
            if pid == 0:
                return ""
            child = next((one for one in self._all() if one.pid == pid), None)
            if child is not None and (problem := self._ended(child, status)):
                return problem

    def _ended(self, child: Child, status: int) -> str:
        code = os.waitstatus_to_exitcode(status)
        delay = child.ended(time.monotonic())
        if child.once:
            self._ready = True
            return "" if code == 0 else f"error: kedge did not start; logs are in {child.needs}"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        why = f": {child.last_line}" if child.last_line else ""
        early = not self._ready and child.deaths >= MAX_EARLY_DEATHS
        if code == EXIT_CONFIG or early:
            return f"error: {child.name} {how}{why}"
        if not self._stop_signals:
            say(f"{child.name} {how}, starts again in {delay:.1f} s{why}")
        return ""

    def _end(self) -> None:
        """Ends everything in reverse order, each given its time."""
        for child in reversed(self._all()):
            child.signal(signal.SIGTERM)
            until = time.monotonic() + STOP_SECONDS
            while child.pid and (left := until - time.monotonic()) > 0:
                self._read(left)
                self._reap()
            child.signal(signal.SIGKILL)


def _become(arguments: list[str], output: int, parent: int) -> None:
    """In the child after the fork: dies with its parent, writes into the pipe, becomes the role."""
    try:
        import ctypes  # noqa: PLC0415 - only the child needs it, and it is gone with exec

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)
        os.setpgid(0, 0)
        devnull = os.open(os.devnull, os.O_RDONLY)
        os.dup2(devnull, 0)
        if output >= 0:
            os.dup2(output, 1)
            os.dup2(output, 2)
        os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - no shell
    finally:
        os._exit(127)


def say(line: str) -> None:
    """One line to the terminal; a terminal that is gone is no reason to end."""
    with contextlib.suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def roles(options: dict[str, object]) -> tuple[list[Child], Child]:
    """The children for the options of ``kedge up``."""
    root = str(options["directory"])
    logs = f"{root}/logs"
    os.makedirs(logs, mode=0o700, exist_ok=True)
    cloud_kubeconfig = f"{root}/cluster/cloud.kubeconfig"
    domain, port = options["node_domain"], options["api_port"]
    found = [
        Child(
            "cluster",
            [
                *("-m", "kedge.cluster", "--data-dir", f"{root}/cluster"),
                *("--listen", f"127.0.0.1:{port}"),
                *(("--node-domain", str(domain)) if domain else ()),
            ],
            "",
            logs,
        ),
        Child(
            "cloud",
            [
                *("-m", "kedge.cloud", "--data-dir", f"{root}/cloud"),
                *("--kubeconfig", cloud_kubeconfig, "--listen", f"0.0.0.0:{options['hub_port']}"),
                *(("--node-domain", f"{domain}:{port}") if domain else ()),
            ],
            cloud_kubeconfig,
            logs,
        ),
    ]
    if options["edge"]:
        config = f"{root}/edge/edge.yaml"
        found.append(Child("edge", ["-m", "kedge.edge", "--config", config], config, logs))
    bootstrap = ["-m", "kedge.ctl.bootstrap", json.dumps(options)]
    return found, Child("bootstrap", bootstrap, logs, logs, once=True)


def main() -> int:
    """Runs what ``kedge up`` asks for: its options as JSON in the only argument."""
    options = json.loads(sys.argv[1])
    lock = os.open(f"{options['directory']}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"error: another kedge up runs in {options['directory']} [AlreadyRunning]")
        say("hint: stop it, or choose another --dir")
        return 1
    return Supervisor(*roles(options)).run()


if __name__ == "__main__":
    sys.exit(main())
