# SPDX-License-Identifier: Apache-2.0
"""``kedge image import | list``: images on a node that never sees a registry.

CRI has no import; containerd's own client ``ctr``, which is installed with it, has (decision 0127).
An archive is one of ``docker save`` or an OCI layout, plain or packed with gzip or zstd. What was
imported is pinned: image garbage collection keeps it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

from kedge import config
from kedge.ctl.failure import Failure
from kedge.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE = "k8s.io"
PINNED = "io.cri-containerd.pinned=pinned"
IMPORT_SECONDS = 3600
SECONDS = 60
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def endpoint(directory: Path, given: str) -> str:
    """The runtime's socket: as given, else as the node in a directory is set.

    Raises:
        Failure: there is no node, or its runtime has no socket in the file system.
    """
    found = given
    if not found:
        try:
            settings = config.read_yaml(directory / "edge.yaml")
        except ConfigError as error:
            hint = "say where the runtime is: --runtime-endpoint unix:///run/containerd/containerd.sock"
            raise Failure("NoNode", str(error), hint) from error
        found = str(settings.get("runtimeEndpoint") or settings.get("runtime_endpoint") or "")
    path = found.removeprefix("unix://")
    if not path.startswith("/"):
        raise Failure("BadEndpoint", f"runtime endpoint: wanted unix:///PATH, got: {found!r}")
    return path


def load(archive: Path, socket: str) -> list[str]:
    """Imports all images of an archive and pins them; their names.

    Raises:
        Failure: the file, the runtime or its client is not as it must be.
    """
    try:
        with archive.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise Failure("NoFile", f"{archive}: {error.strerror}") from error
    before = _names(socket)
    unpack = _unpacker(head, archive)
    words = ["images", "import", "--all-platforms=false"]
    if unpack is None:
        said = _ctr(socket, *words, str(archive), seconds=IMPORT_SECONDS)
    else:
        said = _piped(unpack, socket, words)
    # ctr prints "unpacking NAME (DIGEST)...done" for each.
    named = [line.split()[1] for line in said.splitlines() if line.startswith("unpacking ")]
    names = named or sorted(_names(socket) - before)
    if not names:
        hint = "wanted what docker save or an OCI layout in a tar gives"
        raise Failure("NoImages", f"{archive}: holds no image for this machine", hint)
    for name in names:
        _ctr(socket, "images", "label", name, PINNED)
    return names


def listed(socket: str) -> list[tuple[str, str, bool]]:
    """Name, digest and whether it is pinned, of each image that has a name.

    Raises:
        Failure: the runtime cannot be asked.
    """
    rows = []
    for line in _ctr(socket, "images", "list").splitlines()[1:]:
        words = line.split()
        if len(words) > 2 and not words[0].startswith("sha256:"):
            rows.append((words[0], words[2], PINNED in line))
    return rows


def import_(archive: Path, directory: Path, runtime_endpoint: str) -> None:
    """Prints what was imported."""
    for name in load(archive, endpoint(directory, runtime_endpoint)):
        print(f"imported {name}")


def list_(directory: Path, runtime_endpoint: str, *, as_json: bool) -> None:
    """Prints the images of the node."""
    rows = listed(endpoint(directory, runtime_endpoint))
    if as_json:
        keys = ("name", "digest", "pinned")
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=1))
        return
    width = max([len(name) for name, _, _ in rows], default=4)
    print(f"{'NAME':<{width}}  {'DIGEST':<19}  PINNED")
    for name, digest, is_pinned in rows:
        print(f"{name:<{width}}  {digest[:19]:<19}  {'yes' if is_pinned else 'no'}")


def _unpacker(head: bytes, archive: Path) -> list[str] | None:
    """The command that writes a packed archive plainly; none for one that is plain."""
    for magic, program in ((_GZIP, "gzip"), (_ZSTD, "zstd")):
        if head.startswith(magic):
            return [_program(program, f"{archive}: is packed with it"), "-dc", str(archive)]
    return None


def _names(socket: str) -> set[str]:
    return set(_ctr(socket, "images", "list", "--quiet").split())


def _program(name: str, why: str) -> str:
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise Failure("Missing", f"{why}: {name} is not installed", f"apt-get install {name}")
    return found


def _command(socket: str) -> list[str]:
    program = _program("ctr", "containerd's client imports images")
    return [program, "--address", socket, "--namespace", NAMESPACE]


def _ctr(socket: str, *words: str, seconds: float = SECONDS) -> str:
    command = [*_command(socket), *words]
    try:
        done = subprocess.run(  # noqa: S603 - a list, and containerd's own client
            command, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failure("Timeout", f"containerd did not answer within {seconds:.0f} s") from None
    return _said(done.returncode, done.stdout, done.stderr)


def _piped(unpack: list[str], socket: str, words: list[str]) -> str:
    """Unpacks into containerd without a copy on the disk."""
    with subprocess.Popen(  # noqa: S603 - a list, and a program of the system's
        unpack, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as source:
        try:
            done = subprocess.run(  # noqa: S603 - as above
                [*_command(socket), *words, "-"], stdin=source.stdout, capture_output=True,
                text=True, timeout=IMPORT_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            source.kill()
            raise Failure("Timeout", "containerd did not take the archive in time") from None
        finally:
            if source.stdout is not None:
                source.stdout.close()
        if source.wait(SECONDS) != 0 and done.returncode == 0:
            raise Failure("Damaged", f"{unpack[-1]}: cannot be unpacked to its end")
    return _said(done.returncode, done.stdout, done.stderr)


def _said(code: int, out: str, error: str) -> str:
    if code != 0:
        lines = error.strip().splitlines() or [f"exit code {code}"]
        raise Failure("ContainerdRefused", lines[-1].removeprefix("ctr: ")[:500])
    return out
