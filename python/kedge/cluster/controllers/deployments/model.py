# SPDX-License-Identifier: Apache-2.0
"""A Deployment and its ReplicaSets as the decisions see them, and a decision. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge.cluster.machinery.times import seconds_of

if TYPE_CHECKING:
    from kedge.cluster.machinery.wire import Object

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
TEMPLATE_HASH = "pod-template-hash"

NO_DEADLINE = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ReplicaSet:
    """What decisions read of a ReplicaSet; ``stored`` is the object itself."""

    stored: Object
    name: str
    uid: str
    created: float
    replicas: int
    """Wanted (``spec.replicas``)."""
    actual: int
    """Existing (``status.replicas``)."""
    ready: int
    available: int
    annotations: dict[str, str]

    @classmethod
    def of(cls, stored: Object) -> ReplicaSet:
        """Reads a stored ReplicaSet."""
        metadata, spec, status = stored["metadata"], stored["spec"], stored.get("status") or {}
        replicas = spec.get("replicas")
        return cls(
            stored=stored,
            name=metadata["name"],
            uid=metadata["uid"],
            created=seconds_of(metadata.get("creationTimestamp")),
            replicas=1 if replicas is None else replicas,
            actual=status.get("replicas") or 0,
            ready=status.get("readyReplicas") or 0,
            available=status.get("availableReplicas") or 0,
            annotations=metadata.get("annotations") or {},
        )

    @property
    def age_order(self) -> tuple[float, str]:
        """Sorts the oldest first."""
        return (self.created, self.name)

    @property
    def revision(self) -> int:
        """The revision annotation; 0 without one."""
        return _integer(self.annotations.get(REVISION)) or 0

    def noted(self, annotation: str) -> int | None:
        """An annotation that holds a number."""
        return _integer(self.annotations.get(annotation))

    @property
    def settled(self) -> bool:
        """Whether it is empty, observed and staying: old ones like that may be forgotten."""
        metadata, status = self.stored["metadata"], self.stored.get("status") or {}
        observed = status.get("observedGeneration") or 0
        return (
            self.replicas == 0
            and self.actual == 0
            and metadata.get("generation", 0) <= observed
            and not metadata.get("deletionTimestamp")
        )


@dataclass(frozen=True, slots=True)
class Deployment:
    """What decisions read of a Deployment; ``stored`` is the object itself."""

    stored: Object
    name: str
    replicas: int
    recreate: bool
    max_surge: int
    max_unavailable: int
    paused: bool
    min_ready_seconds: int
    deadline_seconds: int | None
    history_limit: int | None
    template: Object
    annotations: dict[str, str]
    status: Object

    @classmethod
    def of(cls, stored: Object) -> Deployment:
        """Reads a stored Deployment."""
        metadata, spec = stored["metadata"], stored["spec"]
        replicas = 1 if spec.get("replicas") is None else spec["replicas"]
        strategy = spec.get("strategy") or {}
        recreate = strategy.get("type") == "Recreate"
        surge, unavailable = fenceposts(strategy.get("rollingUpdate") or {}, replicas)
        deadline = spec.get("progressDeadlineSeconds")
        return cls(
            stored=stored,
            name=metadata["name"],
            replicas=replicas,
            recreate=recreate,
            max_surge=0 if recreate else surge,
            max_unavailable=0 if recreate else min(unavailable, replicas),
            paused=bool(spec.get("paused")),
            min_ready_seconds=spec.get("minReadySeconds") or 0,
            deadline_seconds=None if deadline in {None, NO_DEADLINE} else deadline,
            history_limit=spec.get("revisionHistoryLimit"),
            template=spec["template"],
            annotations=metadata.get("annotations") or {},
            status=stored.get("status") or {},
        )

    @property
    def max_replicas(self) -> int:
        """The most pods that may be wanted at once."""
        return self.replicas + self.max_surge

    @property
    def min_available(self) -> int:
        """The fewest pods that must stay available."""
        return self.replicas - self.max_unavailable


@dataclass(frozen=True, slots=True)
class Scale:
    """Set a ReplicaSet's wanted replicas."""

    replica_set: ReplicaSet
    replicas: int


@dataclass(slots=True)
class Decision:
    """What to do now. The next look, after the caches hold it, decides the rest."""

    create: Object | None = None
    scale: list[Scale] = field(default_factory=list)
    annotate: list[tuple[ReplicaSet, Object]] = field(default_factory=list)
    """ReplicaSets whose metadata or minReadySeconds are behind, with the merge patch."""
    delete: list[ReplicaSet] = field(default_factory=list)
    revision: str | None = None
    """The revision annotation of the Deployment, when it has to change."""
    status: Object = field(default_factory=dict)
    again_seconds: float | None = None


def fenceposts(rolling: dict[str, Any], replicas: int) -> tuple[int, int]:
    """MaxSurge (rounded up) and maxUnavailable (down); never both zero. Pure."""
    surge = resolve(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = resolve(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    return (surge, 1) if surge == 0 and unavailable == 0 else (surge, unavailable)


def resolve(value: int | str | None, total: int, *, up: bool) -> int:
    """An ``IntOrString`` as a number of ``total``. Pure."""
    if value is None:
        return 0
    if isinstance(value, int):
        return max(value, 0)
    percent = _integer(value.removesuffix("%")) or 0
    share = total * percent / 100
    return max(math.ceil(share) if up else math.floor(share), 0)


def _integer(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
