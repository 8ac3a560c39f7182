# SPDX-License-Identifier: Apache-2.0
"""Records by key, their indexes, and what is shared between them."""

from __future__ import annotations

from kedge.cluster.machinery.cache import PodCache, WorkloadCache
from kedge.cluster.machinery.records import Pod, pod_of, workload_of
from tests.fakes import objects


def cache(*pods: Pod) -> PodCache:
    made = PodCache(pod_of)
    for pod in pods:
        made.put(pod)
    return made


def test_pods_are_found_by_owner_by_node_and_as_strays():
    owned = objects.pod("a", owner="rs", node="n1")
    stray = objects.pod("b", node="n1")
    made = cache(owned, stray)
    assert made.owned_by("rs") == [owned]
    assert made.on_node("n1") == [owned, stray]
    assert made.strays("default") == [stray]
    made.remove(owned.key, owned.version)
    assert made.owned_by("rs") == []
    assert made.on_node("n1") == [stray]


def test_indexes_follow_a_change():
    made = cache(objects.pod("a"))
    made.put(objects.pod("a", owner="rs", node="n1"))
    assert made.strays("default") == []
    assert len(made.owned_by("rs")) == len(made.on_node("n1")) == len(made) == 1


def test_an_older_version_changes_nothing():
    old, new = objects.pod("a", node="n1"), objects.pod("a", node="n2")
    made = cache(new, old)
    assert made.get("default", "a") is new
    made.remove(("default", "a"), old.version)
    assert made.get("default", "a") is new


def test_watchers_see_the_change_in_the_cache_already():
    made = cache()
    seen = []
    made.watch(lambda old, new: seen.append((old, new, len(made))))
    pod = objects.pod("a")
    made.put(pod)
    made.remove(pod.key, pod.version + 1)
    assert seen == [(None, pod, 1), (pod, None, 0)]


def test_another_object_of_the_same_name_is_a_deletion_and_a_creation():
    first = objects.pod("a")
    made = cache(first)
    seen = []
    made.watch(lambda old, new: seen.append((old, new)))
    second = objects.pod("a")
    made.put(second)
    assert seen == [(first, None), (None, second)]


def test_what_a_new_list_lacks_is_dropped_with_notice():
    made = cache(objects.pod("a"), objects.pod("b"))
    gone = []
    made.watch(lambda old, new: gone.append(old.name))
    made.keep_only({("default", "a")})
    assert gone == ["b"]


def test_workloads_are_found_by_namespace():
    made = WorkloadCache(workload_of)
    record = objects.workload("web")
    made.put(record)
    assert made.within("default") == [record]
    made.remove(record.key, record.version)
    assert made.within("default") == []


def test_replicas_share_labels_and_requests_and_bound_pods_forget_their_spec():
    one = objects.pod("a", labels={"app": "web"}, requests={"cpu": "1"}, node="n1")
    two = objects.pod("b", labels={"app": "web"}, requests={"cpu": "1"})
    assert one.labels is two.labels
    assert one.requests is two.requests
    assert one.pending is None
    assert two.pending is not None
