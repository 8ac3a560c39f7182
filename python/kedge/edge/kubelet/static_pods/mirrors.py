# SPDX-License-Identifier: Apache-2.0
"""Mirror pods: how the API shows the static pods of this node.

A static pod runs whether or not there is a cloud. Its mirror is made by a report, comes back through
the node's view like any pod, and is never run: it only says where the static pod's status goes. A mirror
that was deleted, or is of an earlier content of the file, is taken away and made again; one whose
static pod has ended for good is taken away. Loaded with the first static pod or mirror.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge import faults
from kedge.api import static_pods
from kedge.edge.kubelet.static_pods.static import STATIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.api.keys import ObjectKey
    from kedge.edge.kubelet.events import Recorder
    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.kubelet.reports import Reporter

ASK_AGAIN_SECONDS = 60.0
"""A mirror that does not come was refused, for a namespace that is not there: it is asked for again."""


def step(static: Pod | None, mirror: Pod | None, *, is_running: bool) -> str:
    """What is to be done about one name: ``create``, ``delete``, or nothing; pure.

    Args:
        static: the static pod of that name.
        mirror: the mirror in the node's view.
        is_running: a static pod of that name has not ended yet.
    """
    if mirror is None:
        return "create" if static is not None else ""
    if static is None:
        return "" if is_running else "delete"
    is_same = static_pods.mirrored(mirror) == static["metadata"]["uid"]
    is_wanted = is_same and not mirror["metadata"].get("deletionTimestamp")
    return "" if is_wanted else "delete"


class Mirrors:
    """The mirrors of a node's static pods.

    Args:
        reporter: takes them up, and their statuses.
        recorder: holds the events of a static pod until its mirror is there.
        is_running: whether a static pod of a key still has a worker.
        is_known: whether ``set_static`` has been called, where it is to be.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        reporter: Reporter,
        recorder: Recorder,
        *,
        is_running: Callable[[ObjectKey], bool],
        is_known: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._reporter = reporter
        self._recorder = recorder
        self._is_running = is_running
        self._is_known = is_known
        self._clock = clock
        self._static: dict[ObjectKey, Pod] = {}
        self._mirrors: dict[ObjectKey, Pod] = {}
        self._asked: dict[ObjectKey, tuple[str, float]] = {}

    def set_static(self, pods: dict[ObjectKey, Pod]) -> None:
        """All static pods of the node, by keys with the resource ``STATIC``."""
        before = self._static.keys()
        self._static = {_key(key): pod for key, pod in pods.items()}
        for key in {*before, *self._static, *self._mirrors}:
            self.look(key)
        if self._is_known():
            self._let_go({pod["metadata"]["uid"] for pod in self._static.values()})

    def _let_go(self, uids: set[str]) -> None:
        """Events of pods that are no more and never had a mirror can be told to nobody."""
        for uid in self._recorder.held() - uids:
            self._recorder.release(uid, is_known=False)

    def seen(self, key: ObjectKey, mirror: Pod) -> None:
        """A mirror is in the node's view."""
        self._mirrors[key] = mirror
        self.look(key)

    def gone(self, key: ObjectKey) -> None:
        """It is not any more."""
        if self._mirrors.pop(key, None) is not None:
            self._asked.pop(key, None)
            self.look(key)

    def keys(self) -> set[ObjectKey]:
        """The keys of all mirrors."""
        return set(self._mirrors)

    def look(self, key: ObjectKey) -> None:
        """Does what is due about one name."""
        if not self._is_known():
            return
        key = _key(key)
        static, mirror = self._static.get(key), self._mirrors.get(key)
        if static is not None:
            uid = ""
            if mirror is not None and step(static, mirror, is_running=True) == "":
                uid = str(mirror["metadata"]["uid"])
            self._reporter.static_status_to(static, uid)
            if uid:
                self._recorder.release(static["metadata"]["uid"])
            else:
                self._recorder.hold(static["metadata"]["uid"])
        what = step(static, mirror, is_running=self._is_running(key._replace(resource=STATIC)))
        subject = (mirror if what == "delete" else static) or {}
        self._ask(key, what, subject)

    def look_again(self) -> None:
        """Asks again for what was asked for long ago."""
        for key in {*self._static, *self._mirrors}:
            self.look(key)

    def _ask(self, key: ObjectKey, what: str, subject: dict[str, Any]) -> None:
        asked, at = self._asked.get(key, ("", 0.0))
        token = f"{what} {subject['metadata']['uid']}" if what else ""
        if not what or (asked == token and self._clock() < at + ASK_AGAIN_SECONDS):
            return
        self._asked[key] = (token, self._clock())
        if what == "delete":
            self._reporter.pod_deleted(subject)
            if __debug__:
                faults.point("static.mirror.unwanted")
        else:
            self._reporter.mirror(mirror_of(subject))
            if __debug__:
                faults.point("static.mirror.wanted")


def mirror_of(static: Pod) -> Pod:
    """The mirror to be made for a static pod."""
    metadata = static["metadata"]
    annotations = metadata["annotations"] | {static_pods.MIRROR: metadata["uid"]}
    kept = {name: metadata[name] for name in ("name", "namespace", "labels")}
    return static | {"metadata": kept | {"annotations": annotations}}


def _key(key: ObjectKey) -> ObjectKey:
    return key._replace(resource="pods")
