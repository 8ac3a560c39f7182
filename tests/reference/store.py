# SPDX-License-Identifier: Apache-2.0
"""A store as a dict with its whole history: slow, obvious, the oracle for the real one."""

from __future__ import annotations

import copy
import json


class Refused(Exception):
    """A transaction that the store must refuse; ``kind`` is the name of the error's class."""

    def __init__(self, kind):
        super().__init__(kind)
        self.kind = kind


class ReferenceStore:
    """Keeps every state it ever had, by revision."""

    def __init__(self):
        self.states = [{}]  # the state after revision n, at index n
        self.events = []  # (type, key, revision, value, previous, created)

    @property
    def revision(self):
        return len(self.states) - 1

    def commit(self, ops):
        """ops: (kind "put"|"delete"|"check", key, expect, body); body is a dict without resourceVersion."""
        before = (len(self.states), len(self.events))
        revisions = []
        try:
            for kind, key, expect, body in ops:
                revisions.append(self._apply(kind, key, expect, body, before))
        except Refused:
            del self.states[before[0] :]
            del self.events[before[1] :]
            raise
        return revisions

    def _apply(self, kind, key, expect, body, before):
        state = self.states[-1]
        found = state.get(key)
        if expect == 0 and found is not None:
            raise Refused("AlreadyExists")
        if (expect == -2 or expect > 0) and found is None:
            raise Refused("NotFound")
        if expect > 0 and found[0] != expect:
            raise Refused("Conflict")
        if kind == "check" or (kind == "delete" and found is None):
            # what changed nothing answers with the object's revision, or the one the transaction began at
            return found[0] if found is not None else before[0] - 1
        revision = len(self.states)
        new = dict(state)
        previous = found[1] if found else None
        if kind == "delete":
            del new[key]
            self.events.append(("DELETE", key, revision, None, previous, False))
        else:
            stamped = copy.deepcopy(body)
            stamped["metadata"]["resourceVersion"] = str(revision)
            new[key] = (revision, stamped)
            self.events.append(("PUT", key, revision, stamped, previous, found is None))
        self.states.append(new)
        return revision

    def get(self, key):
        return self.states[-1].get(key)

    def list(self, resource, revision=None, namespace="", label=None, node=None):
        state = self.states[self.revision if revision is None else revision]
        chosen = [
            (key, body)
            for key, (_, body) in state.items()
            if key.resource == resource
            and (not namespace or key.namespace == namespace)
            and (label is None or body["metadata"].get("labels", {}).get("app") == label)
            and (node is None or body.get("spec", {}).get("nodeName", "") == node)
        ]
        return sorted(chosen, key=lambda item: (item[0].resource, item[0].namespace, item[0].name))


def encode(body):
    return json.dumps(body).encode()
