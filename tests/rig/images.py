# SPDX-License-Identifier: Apache-2.0
"""Container images without a registry: docker archives packed from Debian's static busybox.

The archive format is the one of ``docker save`` (manifest.json, a configuration, a layer), which
``ctr images import`` reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
IMAGE = "docker.io/library/busybox:latest"
PAUSE_IMAGE = "docker.io/kedge/pause:1"


def write_archive(path: Path, **more: str) -> None:
    """Writes one archive that holds the busybox image and the pause image.

    Args:
        path: of the archive.
        more: names of further images of busybox, each with a command that makes it differ.
    """
    layer = _layer()
    digest = hashlib.sha256(layer).hexdigest()
    entries = []
    with tarfile.open(path, "w") as archive:
        _add(archive, f"{digest}/layer.tar", layer)
        others = [(f"docker.io/kedge/{name}:1", [command]) for name, command in more.items()]
        for reference, command in (
            (IMAGE, ["sh"]),
            (PAUSE_IMAGE, ["sleep", "2147483647"]),
            *others,
        ):
            config = json.dumps(_config(command, digest)).encode()
            name = hashlib.sha256(config).hexdigest() + ".json"
            _add(archive, name, config)
            entries.append(
                {"Config": name, "RepoTags": [reference], "Layers": [f"{digest}/layer.tar"]}
            )
        _add(archive, "manifest.json", json.dumps(entries).encode())


def _config(command: list[str], layer_digest: str) -> dict[str, object]:
    return {
        "architecture": "amd64" if _machine() == "x86_64" else "arm64",
        "os": "linux",
        "config": {
            "Cmd": command,
            "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
    }


def _machine() -> str:
    import platform

    return platform.machine()


def _layer() -> bytes:
    out = io.BytesIO()
    listed = subprocess.run([str(BUSYBOX), "--list"], capture_output=True, text=True, check=True)
    with tarfile.open(fileobj=out, mode="w") as layer:
        for directory, mode in (
            ("bin", 0o755),
            ("etc", 0o755),
            ("tmp", 0o1777),
            ("root", 0o700),
            ("var", 0o755),
        ):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            layer.addfile(entry)
        _add(layer, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        _add(
            layer,
            "etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        )
        _add(layer, "etc/group", b"root:x:0:\nnogroup:x:65534:\n")
        for applet in listed.stdout.split():
            if applet == "busybox":
                continue
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            layer.addfile(entry)
    return out.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
