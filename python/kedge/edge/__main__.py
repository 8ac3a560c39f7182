# SPDX-License-Identifier: Apache-2.0
"""``python -m kedge.edge``: settings, logs, signals; ``app`` does the rest.

Two steps in one process id. The first reads the settings, with all that this takes (argparse, YAML,
validation), and then replaces itself with the second, which gets them as JSON and never loads any of
that. TLS is in Rust, so a stub stands in for ``ssl``, which asyncio imports: 5 MB.
"""

from __future__ import annotations

import sys

RESOLVED = "--resolved"
"""The second step's flag; its value is the settings as JSON."""


def main() -> int:
    """Runs the agent until SIGTERM or SIGINT; the exit status."""
    if len(sys.argv) == 3 and sys.argv[1] == RESOLVED:
        from kedge.edge import slim  # noqa: PLC0415 - it must come before asyncio

        slim.install()
        from kedge.edge import agent  # noqa: PLC0415 - after the stub

        return agent.run(sys.argv[2])
    from kedge.edge import start  # noqa: PLC0415 - only the first step pays for it

    return start.replace_self(sys.argv[1:], RESOLVED)


if __name__ == "__main__":
    sys.exit(main())
