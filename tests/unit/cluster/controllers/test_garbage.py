# SPDX-License-Identifier: Apache-2.0
"""What becomes of objects whose owners go, and of pods that nobody cleans up."""

from __future__ import annotations

import pytest

from kedge.cluster.controllers.garbage import FOREGROUND, ORPHAN, Owner, Verdict, judge
from kedge.cluster.controllers.pod_garbage import surplus
from kedge.cluster.machinery.wire import OwnerReference
from tests.fakes import objects

SOLID, WAITING, ABSENT = Owner.SOLID, Owner.WAITING, Owner.ABSENT


@pytest.mark.parametrize(
    ("owners", "finalizers", "has_dependents", "wanted"),
    [
        ([], [], False, Verdict()),
        ([SOLID], [], False, Verdict()),
        ([ABSENT], [], False, Verdict(delete="Background")),
        ([ABSENT], [], True, Verdict(delete="Background")),
        ([SOLID, ABSENT], [], False, Verdict(drop=("1",))),
        ([SOLID, WAITING], [], False, Verdict(drop=("1",))),
        ([WAITING], [], False, Verdict(delete="Background")),
        ([WAITING], [], True, Verdict(delete="Foreground")),
        ([WAITING, ABSENT], [], True, Verdict(delete="Foreground")),
        ([ABSENT], [ORPHAN], True, Verdict(delete="Orphan")),
        ([ABSENT], [FOREGROUND], False, Verdict(delete="Foreground")),
    ],
)
def test_an_object_is_judged_by_its_owners(
    owners, finalizers, has_dependents: bool, wanted: Verdict
):
    references = [(OwnerReference(str(index)), how) for index, how in enumerate(owners)]
    assert judge(references, finalizers, has_dependents=has_dependents) == wanted


def test_the_oldest_finished_pods_over_the_limit_go():
    pods = [
        objects.pod(f"p{day}", phase="Failed", created=f"2026-01-0{day}T00:00:00Z")
        for day in (3, 1, 2)
    ]
    assert [pod.name for pod in surplus(pods, 1)] == ["p1", "p2"]
    assert surplus(pods, 3) == []
