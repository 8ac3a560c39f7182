# SPDX-License-Identifier: Apache-2.0
"""The ``kedge`` command with a fault point armed: ``python -m tests.rig.faulty_kedge POINT NOTE WORD...``."""

from __future__ import annotations

import sys

from tests.rig import arming

if __name__ == "__main__":
    wanted, note, *words = sys.argv[1:]
    arming.arm(wanted, note)
    from kedge.ctl.__main__ import main

    sys.argv = ["kedge", *words]
    main()
