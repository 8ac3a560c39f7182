# SPDX-License-Identifier: Apache-2.0
"""The real session, both ends, against the reference outbox, under random cuts and crashes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.api.keys import ObjectKey
from kedge.sync import LinkEnd, digest, version
from tests.reference.outbox import ReferenceOutbox

NAMES = ("a", "b", "c", "d")
LINGER = 1001


@dataclass
class Link:
    """One connection: both ends, the frames under way, what is not settled yet."""

    hub: LinkEnd = field(default_factory=lambda: LinkEnd(True))
    node: LinkEnd = field(default_factory=lambda: LinkEnd(False))
    down: list[bytes] = field(default_factory=list)
    up: list[bytes] = field(default_factory=list)
    commits: list[tuple[int, list[Any]]] = field(default_factory=list)
    answers: list[tuple[int, int, ObjectKey, bytes, int]] = field(default_factory=list)
    attached: bool = False


class World:
    """A hub with a view, a node with a store and reports, and at most one link."""

    def __init__(self) -> None:
        self.now = 0
        self.count = 0
        self.view: dict[ObjectKey, bytes] = {}
        self.held: dict[ObjectKey, bytes] = {}
        self.reports: dict[ObjectKey, tuple[bytes, int]] = {}
        self.acked: dict[ObjectKey, int] = {}
        self.told: dict[ObjectKey, tuple[bytes, int]] = {}
        self.objects = ReferenceOutbox()
        self.outbox = ReferenceOutbox()
        self.link: Link | None = None

    def change(self, name: str, gone: bool) -> None:
        key = ObjectKey("", "pods", "d", name)
        self.count += 1
        value = None if gone else b'{"n":%d}' % self.count
        if gone and key not in self.view:
            return
        self.objects.offer(key, value)
        if value is None:
            del self.view[key]
        else:
            self.view[key] = value
        if self.link and self.link.attached:
            self.link.hub.offer(0, key, value, 0, self.now)

    def report(self, name: str, event: bool) -> None:
        key = ObjectKey("", "events" if event else "pods/status", "d", name)
        self.count += 1
        value = b'{"r":%d}' % self.count
        self.outbox.offer(key, value)
        self.reports[key] = (value, self.count)
        if self.link:
            self.link.node.offer(int(event), key, value, self.count, self.now)

    def cut(self) -> None:
        """Frames under way are lost; so are transactions that were not durable yet."""
        self.link = None

    def connect(self) -> None:
        if self.link:
            return
        link = self.link = Link()
        for key, value in self.held.items():
            link.node.hold(key, value)
        for key, value in self.view.items():
            link.hub.hold(key, value)
        link.node.greet("n", *digest({key: version(value) for key, value in self.held.items()}))
        for key, (value, revision) in self.reports.items():
            if self.acked.get(key) != revision:
                link.node.offer(int(key.resource == "events"), key, value, revision, self.now)

    def send(self) -> None:
        if self.link:
            self.link.down += self.link.hub.frames(self.now)
            self.link.up += self.link.node.frames(self.now)

    def carry_down(self) -> None:
        if self.link and self.link.down:
            self._node_does(self.link, self.link.node.receive(self.link.down.pop(0), self.now))

    def carry_up(self) -> None:
        if self.link and self.link.up:
            self._hub_does(self.link, self.link.hub.receive(self.link.up.pop(0), self.now))

    def commit(self) -> None:
        if not self.link or not self.link.commits:
            return
        lane, items = self.link.commits.pop(0)
        for _, flat, value, _ in items:
            key = ObjectKey(*flat)
            self.objects.apply(key, value)
            self.link.node.hold(key, value)
            if value is None:
                self.held.pop(key, None)
            else:
                self.held[key] = value
        self._node_does(self.link, self.link.node.settle(lane, [seq for seq, *_ in items]))

    def answer(self) -> None:
        if not self.link or not self.link.answers:
            return
        lane, seq, key, value, revision = self.link.answers.pop(0)
        self.outbox.apply(key, value)
        self.told[key] = (value, revision)
        self.link.hub.settle(lane, [seq])

    def settle_down(self) -> None:
        """Everything that can happen happens, without cuts."""
        self.connect()
        for _ in range(60):
            self.now += LINGER
            self.send()
            while self.link and (
                self.link.down or self.link.up or self.link.commits or self.link.answers
            ):
                for step in (self.carry_down, self.carry_up, self.commit, self.answer):
                    step()

    def _node_does(self, link: Link, commands: list[tuple[Any, ...]]) -> None:
        for command in commands:
            match command:
                case ("inventory",):
                    entries = [(key, version(value)) for key, value in self.held.items()]
                    link.node.send_inventory(entries)
                case ("deliver", lane, items):
                    link.commits.append((lane, items))
                case ("acked", done):
                    self.acked.update({ObjectKey(*key): revision for key, revision in done})

    def _hub_does(self, link: Link, commands: list[tuple[Any, ...]]) -> None:
        for command in commands:
            match command:
                case ("attach", theirs, count):
                    ours = digest({key: version(value) for key, value in self.view.items()})
                    resume = 0 if ours == (theirs, count) else 1 if count else 2
                    link.hub.welcome(resume)
                    link.attached = True
                    if resume == 2:
                        self._load(link, {})
                case ("compare", entries):
                    self._load(link, {ObjectKey(*key): held for key, held in entries})
                case ("deliver", lane, items):
                    for seq, flat, value, revision in items:
                        key = ObjectKey(*flat)
                        if self.told.get(key, (b"", 0))[1] >= revision:
                            link.hub.settle(lane, [seq])
                        else:
                            link.answers.append((lane, seq, key, value, revision))

    def _load(self, link: Link, held: dict[ObjectKey, int]) -> None:
        for key, value in self.view.items():
            if held.get(key) != version(value):
                link.hub.offer(0, key, value, 0, self.now)
        for key in held.keys() - self.view.keys():
            link.hub.offer(0, key, None, 0, self.now)
        link.hub.loaded()


names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("change"), names, st.booleans()),
    st.tuples(st.just("report"), names, st.booleans()),
    *(
        st.tuples(st.just(name))
        for name in ("connect", "send", "carry_down", "carry_up", "commit", "answer")
        for _ in range(2)
    ),
    st.tuples(st.just("cut")),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(steps, max_size=120))
def test_nothing_is_lost_repeated_or_reordered_under_any_trace_of_cuts(trace: list[Any]) -> None:
    world = World()
    for name, *args in trace:
        getattr(world, name)(*args)
    world.settle_down()
    assert world.held == world.objects.newest() == world.view
    assert {key: value for key, (value, _) in world.told.items()} == world.outbox.newest()
    assert world.acked == {key: revision for key, (_, revision) in world.reports.items()}
