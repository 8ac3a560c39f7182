# SPDX-License-Identifier: Apache-2.0
"""The store alone: durable writes in group commit, and reads, on this machine's cores.

1024 writers each wait for their own fsynced commit of a 1 KB object; then 2 readers get random objects
out of 10,000. The loop is a Rust program, as the API server's use of the store is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.rig import REPOSITORY, Bench

SECONDS = 5


def main() -> int:
    bench = Bench("store")
    with tempfile.TemporaryDirectory(prefix="kedge-bench-", dir=REPOSITORY / "target") as directory:
        done = subprocess.run(
            ["cargo", "run", "--quiet", "--locked", "--release", "--package", "kedge-core", "--example", "store_load",
             "--", directory, str(SECONDS)],
            cwd=REPOSITORY, capture_output=True, text=True, check=True,
        )  # fmt: skip
    figures = json.loads(done.stdout)
    bench.figure(
        "durable_writes", figures["writes_per_second"], "1/s", goal=20_000, better="higher"
    )
    bench.figure("reads", figures["reads_per_second"], "1/s", goal=200_000, better="higher")
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
