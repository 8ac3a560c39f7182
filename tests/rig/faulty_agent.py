# SPDX-License-Identifier: Apache-2.0
"""The test build of the node's agent: the same code with its fault points in, and one of them armed.

``python -m tests.rig.faulty_agent POINT[:COUNT][+DELAY_MS] SETTINGS NOTE`` runs the agent's second step with
the settings given as JSON. When POINT is passed for the COUNTth time, the process writes the point's name
into the file NOTE and kills itself with SIGKILL, DELAY_MS later if that is given: what was asked there is
then under way. It runs without ``-O``, so that the points are compiled in.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from kedge.edge import slim


def main() -> int:
    """Arms the point and runs the agent."""
    if not __debug__:
        sys.exit("the fault points are not compiled in")
    slim.install()
    from kedge import faults
    from kedge.edge import agent

    wanted, settings, note = sys.argv[1:]
    wanted, _, delay = wanted.partition("+")
    wanted, _, count = wanted.partition(":")
    left = int(count or 1)
    lock = threading.Lock()

    def end() -> None:
        time.sleep(int(delay or 0) / 1000)
        Path(note).write_text(wanted)
        os.kill(os.getpid(), signal.SIGKILL)

    def reached(name: str) -> None:
        nonlocal left
        if name != wanted:
            return
        with lock:
            left -= 1
            if left != 0:
                return
        if delay:
            threading.Thread(target=end, daemon=True).start()
        else:
            end()

    faults.reached = reached
    return agent.run(settings)


if __name__ == "__main__":
    sys.exit(main())
