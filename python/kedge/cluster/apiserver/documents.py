# SPDX-License-Identifier: Apache-2.0
"""The static documents of the API server: made once, kept as bytes.

Discovery is small and made at start. The OpenAPI documents would leave a process that once built
them as dicts some megabytes larger for good; so a child process makes them, into files named by
what they are made from, and later starts read those.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge.api import discovery, gnostic, openapi
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kedge.cluster.apiserver.server import Server

JSON = "application/json"
INDEX = "index.json"
BUILD_SECONDS = 120
_SOURCES = ("kinds.py", "discovery.py", "openapi.py", "gnostic.py", "generated/definitions.json")


def serve_discovery(server: Server, address: str, jwks: str, issuer: str) -> None:
    """Hands over discovery and the keys of ServiceAccount tokens.

    Args:
        server: the HTTP side.
        address: host and port that clients reach it at.
        jwks: the key set.
        issuer: who issues tokens.
    """
    plain = discovery.documents(address)
    for path, document in plain.items():
        _put(server, path, JSON, _dump(document))
    for version in discovery.AGGREGATED_VERSIONS:
        media_type = discovery.AGGREGATED.format(version=version)
        _put(server, "/api", media_type, _dump(discovery.aggregated(core=True, version=version)))
        _put(server, "/apis", media_type, _dump(discovery.aggregated(core=False, version=version)))
    for media_type in ("application/jwk-set+json", JSON):
        _put(server, "/openid/v1/jwks", media_type, jwks.encode())
    keys = f"https://{address}/openid/v1/jwks"
    _put(
        server, "/.well-known/openid-configuration", JSON, _dump(openid_configuration(issuer, keys))
    )


def openid_configuration(issuer: str, keys: str) -> dict[str, Any]:
    """What OpenID discovery says."""
    return {
        "issuer": issuer,
        "jwks_uri": keys,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


def expect_openapi(server: Server) -> None:
    """Says that the OpenAPI documents will be there: clients that come before them ask again."""
    for path in ("/openapi/v2", "/openapi/v3"):
        server.expect_document(path)


async def serve_openapi(server: Server, directory: Path) -> None:
    """Hands over the OpenAPI documents, making them first where that was not done before.

    Raises:
        KedgeError: they could not be made.
    """
    ready = directory / source_hash()
    if not (ready / INDEX).exists():
        await _build(ready)
    index = json.loads((ready / INDEX).read_text(encoding="utf-8"))
    bodies = [(ready / name).read_bytes() for name, *_ in index]
    for (_, path, media_type, tag), body in zip(index, bodies, strict=True):
        server.set_document(path, media_type, body, tag)


def source_hash() -> str:
    """Changes with everything that the documents are made from."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((files("kedge.api") / name).read_bytes())
    return digest.hexdigest()[:16]


async def _build(ready: Path) -> None:
    """Runs this module as a program; the directory appears whole or not at all."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kedge.cluster.apiserver.documents",
        str(ready),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(BUILD_SECONDS):
            _, errors = await process.communicate()
    except BaseException:
        process.kill()
        raise
    if process.returncode != 0:
        raise KedgeError(
            f"the OpenAPI documents could not be made: {errors.decode(errors='replace')[-500:]}"
        )


def write_openapi(directory: Path) -> None:
    """Makes all OpenAPI documents and an index of them, as files."""
    part = directory.with_name(directory.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    index = []
    for number, (path, media_type, body) in enumerate(_openapi()):
        name = f"{number:02d}"
        (part / name).write_bytes(body)
        index.append((name, path, media_type, _tag(body)))
    (part / INDEX).write_text(json.dumps(index), encoding="utf-8")
    if not directory.exists():
        part.rename(directory)


def _openapi() -> Iterator[tuple[str, str, bytes]]:
    document = openapi.version_2()
    yield "/openapi/v2", JSON, _dump(document)
    protobuf = gnostic.encode(document)
    yield "/openapi/v2", gnostic.MEDIA_TYPE, protobuf
    hashes = {}
    for name, one in openapi.version_3():
        body = _dump(one)
        hashes[name] = _tag(body).upper()
        yield f"/openapi/v3/{name}", JSON, body
    yield "/openapi/v3", JSON, _dump(openapi.version_3_index(hashes))


def _put(server: Server, path: str, media_type: str, body: bytes) -> None:
    server.set_document(path, media_type, body, _tag(body))


def _dump(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _tag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]


if __name__ == "__main__":
    write_openapi(Path(sys.argv[1]))
