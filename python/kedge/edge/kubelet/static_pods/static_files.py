# SPDX-License-Identifier: Apache-2.0
"""Pod manifests in a directory, read by a process of their own: ``python -m ... DIRECTORY NODE``.

YAML, the API's types, defaults and rules cost some megabytes that the agent does not keep: it starts
this program when something in the directory changed. The answer on standard output is a JSON list with
an entry per file: ``{"file", "pod", "warning"}`` or ``{"file", "error"}``. A manifest that eats memory or time
takes this process with it, not the agent.

As with the kubelet: one v1 Pod per file, names that begin with a dot are left out, and so are
directories. The UID is a hash of node, file and content, so a changed file is another pod.
"""

from __future__ import annotations

import json
import resource
import stat
import sys
import uuid
from pathlib import Path
from typing import Any

import yaml

from kedge.api import defaults, kinds, schema, static_pods, validation
from kedge.errors import KedgeError

MAX_FILES = 100
MAX_FILE_BYTES = 256 * 1024
MAX_VALUES = 20_000
MAX_MEMORY_BYTES = 1 << 30
MAX_CPU_SECONDS = 20
_TOLERATION = {"operator": "Exists", "effect": "NoExecute"}
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122: names that are URLs


class ManifestError(KedgeError):
    """A file is not one pod that can run here."""

    reason = "InvalidManifest"


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a date is a string."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the class it comes from
        first: [one for one in known if one[0] != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def main(arguments: list[str]) -> int:
    """Prints what the directory has; 0 also when single files are bad."""
    directory, node = arguments
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
    sys.stdout.write(json.dumps(read_directory(Path(directory), node)))
    return 0


def read_directory(directory: Path, node: str) -> list[dict[str, Any]]:
    """An entry per file, by name; the first of two files with the same pod counts."""
    found: list[dict[str, Any]] = []
    taken: dict[tuple[str, str], str] = {}
    try:
        names = sorted(path.name for path in directory.iterdir() if path.name[0] != ".")
    except FileNotFoundError:
        return []
    for number, name in enumerate(names):
        try:
            if number >= MAX_FILES:
                raise ManifestError(f"one file too many: at most {MAX_FILES} are read")
            read_one = read(directory / name, node)
            if read_one is None:
                continue
            pod, warning = read_one
            metadata = pod["metadata"]
            same = taken.setdefault((metadata["namespace"], metadata["name"]), name)
            if same != name:
                raise ManifestError(f"the same pod is in {same}: {metadata['name']}")
        except (KedgeError, OSError, ValueError, RecursionError, MemoryError) as error:
            found.append({"file": name, "error": _one_line(error)})
        else:
            found.append({"file": name, "pod": pod, "warning": warning})
    return found


def read(path: Path, node: str) -> tuple[dict[str, Any], str] | None:
    """The static pod in a file, complete, and what to warn of; none when it is not a file.

    Raises:
        ManifestError: it is not one pod.
        KedgeError: the API would not take the pod either.
        OSError: it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        return None
    with path.open("rb") as file:
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise ManifestError(f"larger than {MAX_FILE_BYTES} bytes")
    try:
        manifest = yaml.load(raw.decode(), _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ManifestError(f"neither YAML nor JSON: {error}") from error
    if _size(manifest, MAX_VALUES) > MAX_VALUES:
        raise ManifestError(f"more than {MAX_VALUES} values")
    if not isinstance(manifest, dict):
        raise ManifestError("wanted one object")
    if (manifest.get("apiVersion"), manifest.get("kind")) != ("v1", "Pod"):
        got = f"{manifest.get('apiVersion')} {manifest.get('kind')}"
        raise ManifestError(f"wanted a v1 Pod, got: {got}")
    return complete(manifest, path, node)


def _size(value: Any, most: int) -> int:
    """How many values there are, counted to a little over ``most``: aliases make many of few."""
    if isinstance(value, dict):
        inner = [*value.values()]
    elif isinstance(value, list):
        inner = value
    else:
        return 1
    count = 1
    for item in inner:
        count += _size(item, most - count)
        if count > most:
            break
    return count


def complete(manifest: dict[str, Any], path: Path, node: str) -> tuple[dict[str, Any], str]:
    """The pod as the node runs it: decoded, defaulted, checked, named and bound; and a warning.

    Raises:
        KedgeError: it cannot be that.
    """
    kind = next(one for one in kinds.KINDS if (one.group, one.resource) == ("", "pods"))
    identity = uuid.uuid5(_NAMESPACE, f"{node}\n{path}\n{json.dumps(manifest, sort_keys=True)}")
    unknown = schema.decode(schema.struct(kind.definition), manifest)
    given, spec = manifest.get("metadata") or {}, manifest.get("spec") or {}
    if not given.get("name"):
        raise ManifestError("metadata.name: wanted a name")
    found = static_pods.references(spec)
    if found:
        raise ManifestError(f"a static pod may not refer to objects of the API: {found[0]}")
    annotations = dict(given.get("annotations") or {})
    annotations.pop(static_pods.MIRROR, None)
    metadata = {
        "name": f"{given['name']}-{node}",
        "namespace": given.get("namespace") or "default",
        "uid": str(identity),
        "labels": given.get("labels") or {},
        "annotations": annotations | {static_pods.HASH: str(identity), static_pods.SOURCE: "file"},
    }
    spec |= {"nodeName": node, "tolerations": [*(spec.get("tolerations") or []), _TOLERATION]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    defaults.apply("", "pods", pod)
    validation.validate(kind, pod)
    return pod, f"unknown fields: {', '.join(unknown[:10])}" if unknown else ""


def _one_line(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:500]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
