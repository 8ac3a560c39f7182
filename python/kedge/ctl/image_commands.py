# SPDX-License-Identifier: Apache-2.0
"""``kedge image import | list | remove``: images on a node that never sees a registry.

CRI has no import; containerd's own client ``ctr``, which is installed with it, has (decision 0127).
An archive is one of ``docker save`` or an OCI layout, plain or packed with gzip or zstd. What was
imported is pinned, and noted in the node's directory for runtimes that do not tell what is pinned
(decision 0145): image garbage collection keeps it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kedge import config
from kedge.ctl.failure import Failure
from kedge.errors import ConfigError, KedgeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kedge.edge.runtime.cri import CriRuntime

T = TypeVar("T")

NAMESPACE = "k8s.io"
PINNED = "io.cri-containerd.pinned=pinned"
IMPORT_SECONDS = 3600
SECONDS = 60
SEEN_SECONDS = 20.0
"""Within which CRI has an image that containerd's client imported."""
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
    socket = endpoint(directory, runtime_endpoint)
    names = load(archive, socket)
    if (directory / "edge.yaml").exists():
        note(directory, socket, names)
    for name in names:
        print(f"imported {name}")


def note(directory: Path, socket: str, names: list[str]) -> None:
    """Writes down which images a node's agent keeps.

    Raises:
        Failure: the runtime does not have them, or they cannot be written down.
    """
    from kedge.edge.kubelet.images.imported import Imported  # noqa: PLC0415 - for nodes only

    imported = Imported(_data(directory))
    try:
        for image_id, one in _asked(socket, lambda cri: _ids(cri, names)).items():
            imported.add(image_id, one)
        # The agent may have collected one before it was written down.
        _asked(socket, lambda cri: _ids(cri, names, seconds=0.0))
    except (OSError, ValueError) as error:
        what = f"what was imported cannot be written down: {error}"
        raise Failure("NotKept", what, "run it as root, with the --dir of the node") from error


def remove(name: str, directory: Path, runtime_endpoint: str) -> None:
    """Removes an image, with all its names, that no container uses.

    Raises:
        Failure: it is not there, or in use, or the runtime refused.
    """
    from kedge.edge.kubelet.images.imported import Imported  # noqa: PLC0415 - for nodes only

    async def work(cri: CriRuntime) -> str:
        found = await cri.image_status(name)
        if found is None:
            raise Failure("NoImage", f"no image {name} on this node", "see kedge image list")
        users = [one.id for one in await cri.list_containers() if one.image_ref == found.id]
        if users:
            what = f"{name} is used by {len(users)} containers, one of them is {users[0]}"
            raise Failure("InUse", what, "delete their pods first")
        await cri.remove_image(found.id)
        return found.id

    image_id = _asked(endpoint(directory, runtime_endpoint), work)
    if (directory / "edge.yaml").exists():
        Imported(_data(directory)).drop(image_id)
    print(f"removed {name}")


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


def _data(directory: Path) -> Path:
    """Where the node of a directory keeps what is its own."""
    settings = config.read_yaml(directory / "edge.yaml")
    return Path(str(settings.get("dataDir") or settings.get("data_dir") or directory))


def _asked(socket: str, work: Callable[[CriRuntime], Awaitable[T]]) -> T:
    from kedge.ctl.runtime import ask  # noqa: PLC0415 - a list needs no CRI

    try:
        return ask(f"unix://{socket}", work)
    except (KedgeError, TimeoutError, OSError) as error:
        what = f"the container runtime at {socket} did not do it: {str(error) or 'no answer'}"
        raise Failure("NoRuntime", what, "start it, then try again") from error


async def _ids(
    cri: CriRuntime, names: list[str], seconds: float = SEEN_SECONDS
) -> dict[str, list[str]]:
    """Names by the image's id, as CRI has them; it learns of imports a little later."""
    found: dict[str, list[str]] = {}
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    for name in names:
        while (image := await cri.image_status(name)) is None:
            if loop.time() >= until:
                what = f"{name} was imported, and CRI does not have it"
                raise Failure("NotKept", what, "import it again")
            await asyncio.sleep(0.05)
        found.setdefault(image.id, []).append(name)
    return found


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
