# SPDX-License-Identifier: Apache-2.0
"""What makes a cluster of the copy of one: revisions that nobody has seen, and a mark that tells of it.

Clients know revisions of after the copy, so the restored cluster goes on far above them: a thousand million
further on, and at least at the present time in milliseconds, so that two restores of one copy differ too.
Earlier revisions are ``410 Gone``, and clients list anew. The ConfigMap ``kedge-restored`` tells nodes, by
the hub, that what they reported may be forgotten (``hub/driver.rs``).
"""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING

from kedge.api.keys import ObjectKey
from kedge.store import Store, put, renew

if TYPE_CHECKING:
    from pathlib import Path

LEAP = 1_000_000_000
MARK = ObjectKey("", "configmaps", "kedge-system", "kedge-restored")


def restart(path: Path, taken: str) -> int:
    """Makes the copy in a store's directory the store of a cluster; the revision it goes on from.

    Args:
        path: the directory, which nobody has open.
        taken: when the copy was taken, for people.

    Raises:
        StoreError: it is damaged.
        Invalid: it is of another version of kedge.
    """
    before, revision = renew(path, LEAP, int(time.time() * 1000))
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    mark = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": MARK.name,
            "namespace": MARK.namespace,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": now,
        },
        "data": {"taken": taken, "revision": str(before), "restored": now},
    }
    store = Store.open(path, mode="primary")
    try:
        store.commit_now([put(MARK, json.dumps(mark, separators=(",", ":")).encode())])
    finally:
        store.close()
    return revision
