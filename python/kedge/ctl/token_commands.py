# SPDX-License-Identifier: Apache-2.0
"""``kedge token create | list | revoke``: join tokens, through the API as its user may."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kedge import config
from kedge.aio import beside
from kedge.api.keys import ObjectKey
from kedge.cloud import authority, names
from kedge.ctl.failure import Failure
from kedge.errors import ApiError, ConfigError, Disconnected, Invalid, NotFound
from kedge.hub import tokens
from kedge.kube import KubeClient
from kedge.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

DEFAULT_KUBECONFIG = Path("kedge-data/kubeconfig")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def create(kubeconfig: Path | None, *, ttl: str, node: str, rejoin: bool) -> str:
    """Makes a token; its text.

    Raises:
        Failure: the API is away or refuses, or a value does not fit.
    """
    seconds = parse_ttl(ttl)
    try:
        grant = tokens.new_grant(time.time(), seconds, node=node, rejoin=rejoin)
        if node:
            names.check_name(node)
    except Invalid as error:
        raise Failure("Invalid", str(error), "see kedge token create --help") from error
    return with_client(kubeconfig, lambda client: issue(client, grant))


async def issue(client: KubeClient, grant: tokens.Grant) -> str:
    """The token of a grant, once its Secret is there."""
    trusted = await authority.load(client)
    now = time.time()
    await client.create(
        ObjectKey("", "secrets", tokens.NAMESPACE, grant.secret_name),
        tokens.to_secret(grant, now),
    )
    return tokens.encode(grant, trusted.ca.certificate, trusted.token_key, now)


def show(kubeconfig: Path | None) -> None:
    """Prints the tokens that exist."""
    from rich.console import Console  # noqa: PLC0415 - only to print
    from rich.table import Table  # noqa: PLC0415 - only to print

    async def find(client: KubeClient) -> list[tokens.Grant]:
        found = await client.list("", "secrets", tokens.NAMESPACE, labels=tokens.LABEL)
        return [tokens.from_secret(secret) for secret in found]

    table = Table("ID", "EXPIRES", "NODE", "REJOIN", box=None, header_style="")
    for grant in with_client(kubeconfig, find):
        table.add_row(
            grant.id,
            expiry_text(grant, time.time()),
            grant.node or "any",
            str(grant.rejoin).lower(),
        )
    Console().print(table)


def revoke(kubeconfig: Path | None, token_id: str) -> None:
    """Deletes a token's Secret.

    Raises:
        Failure: there is no such token.
    """
    key = ObjectKey("", "secrets", tokens.NAMESPACE, tokens.SECRET_PREFIX + token_id)
    try:
        with_client(kubeconfig, lambda client: client.delete(key))
    except NotFound as error:
        what = f"no join token has the id {token_id}"
        raise Failure("NotFound", what, "kedge token list shows the ids") from error


def with_client(kubeconfig: Path | None, work: Callable[[KubeClient], Awaitable[T]]) -> T:
    """Runs ``work`` with a client of the API server.

    Raises:
        Failure: there is no kubeconfig, or the API is away or refuses.
    """
    path = kubeconfig or Path(config.environment(config.ENV_KUBECONFIG) or DEFAULT_KUBECONFIG)
    if not path.exists():
        what = f"no kubeconfig at {path}"
        raise Failure(
            "NoKubeconfig", what, "give --kubeconfig DIR/kubeconfig, where DIR is kedge up's"
        )
    try:
        return asyncio.run(_with_client(path, work))
    except ConfigError as error:
        raise Failure(error.reason, str(error), "give another --kubeconfig") from error
    except Disconnected as error:
        what = f"the API server does not answer: {error}"
        raise Failure("ApiAway", what, "check that kedge up runs, and --kubeconfig") from error
    except NotFound:
        raise
    except ApiError as error:
        raise Failure(error.reason, str(error), "use the administrator's kubeconfig") from error


async def _with_client(path: Path, work: Callable[[KubeClient], Awaitable[T]]) -> T:
    runtime = Runtime(1)
    try:
        client = KubeClient.from_kubeconfig(runtime, path)
        return await beside(client.run(), work(client))
    finally:
        runtime.close()


def parse_ttl(text: str) -> float:
    """Seconds in ``90s``, ``30m``, ``24h`` or ``7d``.

    Raises:
        Failure: anything else.
    """
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if match is None:
        what = f"--ttl: wanted a number and s, m, h or d, got: {text}"
        raise Failure("Invalid", what, "for example --ttl 24h")
    return float(match[1]) * _UNITS[match[2]]


def expiry_text(grant: tokens.Grant, now: float) -> str:
    """How long a token still holds, for people."""
    left = grant.expires - now
    if left <= 0:
        return "expired"
    unit = next(name for name in "dhms" if left >= _UNITS[name] or name == "s")
    return f"in {left / _UNITS[unit]:.0f}{unit}"
