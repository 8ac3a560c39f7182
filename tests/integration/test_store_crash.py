# SPDX-License-Identifier: Apache-2.0
"""The store where processes die and disks fill."""

import json
import resource
import signal
import subprocess
import sys
import textwrap

import pytest

from kedge.api.keys import ObjectKey
from kedge.store import Store
from tests.rig.processes import environment

WRITER = """
    import json, sys
    from kedge.api.keys import ObjectKey
    from kedge.store import Store, put
    store = Store.open(sys.argv[1], mode="primary", history=20)
    number = store.revision
    while True:
        number += 1
        key = ObjectKey("", "configmaps", "default", f"m{number % 50}")
        value = {"metadata": {"name": key.name}, "data": {"number": str(number), "filler": "x" * 3000}}
        [revision] = store.commit_now([put(key, json.dumps(value).encode())])
        print(json.dumps([key.name, revision, number]), flush=True)
"""

FULL = """
    import json, resource, signal, sys
    from kedge.api.keys import ObjectKey
    from kedge.errors import Full
    from kedge.store import Store, put
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = Store.open(sys.argv[1], mode="primary", history=10)
    def write(number):
        key = ObjectKey("", "configmaps", "default", f"m{number}")
        value = {"metadata": {"name": key.name}, "data": {"filler": "x" * 20000}}
        store.commit_now([put(key, json.dumps(value).encode())])
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, unlimited))
    written, refused = [], 0
    for number in range(100):
        try:
            write(number)
            written.append(number)
        except Full:
            refused += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
    write(1000)
    print(json.dumps({"written": written + [1000], "refused": refused}))
    store.close()
"""


def run(script, *arguments, **options):
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment(), **options
    )


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path):
    acknowledged = {}
    for _ in range(5):
        with run(WRITER, tmp_path / "store") as writer:
            for _ in range(40):
                name, revision, number = json.loads(writer.stdout.readline())
                acknowledged[name] = (revision, number)
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout.read().splitlines():
                name, revision, number = json.loads(line)
                acknowledged[name] = (revision, number)
        store = Store.open(tmp_path / "store", mode="primary", history=20)
        for name, (revision, number) in acknowledged.items():
            found = store.get(ObjectKey("", "configmaps", "default", name))
            # the write that was under way may have become durable without its answer
            assert found.revision >= revision
            assert int(json.loads(found.value)["data"]["number"]) >= number
        store.close()


def test_a_full_disk_refuses_the_write_loses_nothing_and_goes_on_when_there_is_space(tmp_path):
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
        pytest.fail("this test needs an unlimited hard limit of file size")
    with run(FULL, tmp_path / "store") as writer:
        result = json.loads(writer.stdout.read())
    assert result["refused"] > 0
    store = Store.open(tmp_path / "store", mode="primary")
    names = {item.key.name for item in store.list("", "configmaps").items}
    store.close()
    assert names == {f"m{number}" for number in result["written"]}
