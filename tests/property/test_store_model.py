# SPDX-License-Identifier: Apache-2.0
"""The store against a dict with history: every answer, watch and page, across reopenings."""

import asyncio
import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kedge import errors
from kedge.api.keys import ObjectKey
from kedge.store import ABSENT, ANY, PRESENT, Op, Store
from tests.reference.store import ReferenceStore, Refused, encode

KINDS = {"put": 0, "delete": 1, "check": 2}
keys = st.builds(
    ObjectKey,
    st.just(""),
    st.sampled_from(["pods", "configmaps", "pods/status"]),
    st.sampled_from(["", "a", "ab"]),
    st.sampled_from(["x", "x0", "xy", "y"]),
)
bodies = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {}, optional={"labels": st.fixed_dictionaries({"app": st.sampled_from(["web", "db"])})}
        )
    },
    optional={
        "spec": st.fixed_dictionaries({"nodeName": st.sampled_from(["n1", "n2", ""])}),
        "data": st.dictionaries(st.text(max_size=5), st.text(max_size=2000), max_size=3),
    },
)
expectations = st.one_of(st.sampled_from([ANY, PRESENT, ABSENT]), st.integers(1, 40))
operations = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "check"]), keys, expectations, bodies
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda op: op[1],
)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="kedge-model-"))
        self.reference = ReferenceStore()
        self.store = self._open()
        self.opened_at = 0

    def _open(self):
        return Store.open(self.directory / "store", mode="primary", map_size=1 << 20)

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.directory)

    @rule(ops=operations)
    def commit(self, ops):
        real = [Op(KINDS[kind], key, expect, encode(body)) for kind, key, expect, body in ops]
        try:
            wanted = self.reference.commit(ops)
        except Refused as refused:
            try:
                self.store.commit_now(real)
            except errors.KedgeError as error:
                assert type(error).__name__ == refused.kind
            else:
                raise AssertionError(f"committed, wanted {refused.kind}")
        else:
            assert self.store.commit_now(real) == wanted

    @rule()
    def reopen(self):
        self.store.close()
        self.store = self._open()

    @rule(
        resource=st.sampled_from(["pods", "configmaps"]), namespace=st.sampled_from(["", "a", "ab"])
    )
    def list_all(self, resource, namespace):
        page = self.store.list("", resource, namespace=namespace)
        assert page.revision == self.reference.revision
        self._same(page.items, self.reference.list(resource, namespace=namespace))

    @rule(label=st.sampled_from(["web", "db"]), node=st.sampled_from(["n1", "n2"]))
    def list_selected(self, label, node):
        page = self.store.list("", "pods", labels=f"app={label}", fields=f"spec.nodeName={node}")
        self._same(page.items, self.reference.list("pods", label=label, node=node))

    @rule(limit=st.integers(1, 3), ops=operations)
    def pages_stay_at_one_revision(self, limit, ops):
        first = self.store.list("", "pods", limit=limit)
        items, token = first.items, first.continue_token
        self.commit(ops)
        while token:
            page = self.store.list("", "pods", limit=limit, continue_token=token)
            assert page.revision == first.revision
            items, token = items + page.items, page.continue_token
        self._same(items, self.reference.list("pods", revision=first.revision))

    @rule(share=st.floats(0, 1))
    def watch_from_any_revision(self, share):
        start = int(share * self.reference.revision)
        wanted = [event for event in self.reference.events if event[2] > start]
        asyncio.run(asyncio.wait_for(self._watch(start, wanted), 10))

    async def _watch(self, start, wanted):
        seen = []
        if wanted:
            async for batch in self.store.watch(from_revision=start):
                seen += batch
                if len(seen) >= len(wanted):
                    break
        decoded = [
            (
                event.type,
                event.key,
                event.revision,
                json.loads(event.value) if event.value else None,
                json.loads(event.previous) if event.previous is not None else None,
                event.created,
            )
            for event in seen
        ]
        assert decoded == wanted

    def _same(self, items, wanted):
        assert [(item.key, json.loads(item.value)) for item in items] == wanted

    @invariant()
    def every_object_is_as_the_reference_has_it(self):
        assert self.store.revision == self.reference.revision
        for key, (revision, body) in self.reference.states[-1].items():
            found = self.store.get(key)
            assert found is not None
            assert (found.revision, json.loads(found.value)) == (revision, body)


TestStoreModel = StoreMachine.TestCase
