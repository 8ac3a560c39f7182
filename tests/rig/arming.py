# SPDX-License-Identifier: Apache-2.0
"""Arms a fault point in this process: it kills itself with SIGKILL when it gets there."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path


def arm(wanted: str, note: str) -> None:
    """Arms ``POINT[:COUNT][+DELAY_MS]``; its name is written into the file ``note`` before the end."""
    if not __debug__:
        sys.exit("the fault points are not compiled in")
    from kedge import faults

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
