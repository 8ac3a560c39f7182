# SPDX-License-Identifier: Apache-2.0
"""The test build of the node's agent: the same code with its fault points in, and one of them armed.

``python -m tests.rig.faulty_agent POINT SETTINGS NOTE`` runs the agent's second step with the settings
given as JSON (``tests.rig.arming`` says what POINT and NOTE are). It runs without ``-O``, so that the points
are compiled in.
"""

from __future__ import annotations

import sys

from kedge.edge import slim
from tests.rig import arming


def main() -> int:
    """Arms the point and runs the agent."""
    wanted, settings, note = sys.argv[1:]
    slim.install()
    arming.arm(wanted, note)
    from kedge.edge import agent

    return agent.run(settings)


if __name__ == "__main__":
    sys.exit(main())
