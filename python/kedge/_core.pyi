"""The Rust extension. Import it only through a typed face (``kedge.store``, ``kedge.hub``, ...)."""

from collections.abc import Sequence
from typing import Literal

VERSION: str

# --- runtime -----------------------------------------------------------------------------------

class Runtime:
    def __new__(cls, workers: int = 2) -> Runtime: ...
    def close(self) -> None: ...

# --- store -------------------------------------------------------------------------------------

_Key = tuple[str, str, str, str]

class Store:
    def __new__(
        cls,
        path: str,
        primary: bool,
        history: int,
        history_bytes: int,
        map_size: int,
        durable: bool,
        seal: bytes | None,
        sealed: list[tuple[str, str]],
    ) -> Store: ...
    def get(self, key: _Key) -> tuple[bytes, int] | None: ...
    def list(
        self,
        group: str,
        resource: str,
        namespace: str,
        labels: str,
        fields: str,
        limit: int,
        continue_token: str,
        at_revision: int,
    ) -> tuple[list[tuple[_Key, bytes, int]], int, str]: ...
    def owned(self, uid: str) -> list[tuple[_Key, bytes, int]]: ...  # type: ignore[valid-type]
    def submit(self, ticket: int, ops: Sequence[tuple[int, _Key, int, bytes]]) -> None: ...
    def commit_now(self, ops: Sequence[tuple[int, _Key, int, bytes]]) -> list[int]: ...  # type: ignore[valid-type]
    def fileno(self) -> int: ...
    def drain(self, limit: int) -> list[tuple[int, list[int], Exception | None]]: ...  # type: ignore[valid-type]
    def watch(
        self,
        resources: Sequence[tuple[str, str]],
        from_revision: int | None,
        namespace: str,
        labels: str,
        fields: str,
    ) -> Watch: ...
    @property
    def revision(self) -> int: ...
    @property
    def store_id(self) -> int: ...
    def stats(self) -> list[tuple[str, int]]: ...  # type: ignore[valid-type]
    def trim(self) -> None: ...
    def close(self) -> None: ...

class Watch:
    def fileno(self) -> int: ...
    def drain(
        self, limit: int
    ) -> list[tuple[Literal["PUT", "DELETE"], _Key, int, bytes, bytes | None, bool]]: ...
    def close(self) -> None: ...

def set_store_aside(path: str) -> str: ...

# --- sync --------------------------------------------------------------------------------------

# --- pki ---------------------------------------------------------------------------------------

def pki_new_key() -> str: ...
def pki_create_ca(common_name: str, days: int) -> tuple[str, str]: ...
def pki_issue(
    ca_cert: str,
    ca_key: str,
    common_name: str,
    organizations: Sequence[str],
    dns_names: Sequence[str],
    ip_addresses: Sequence[str],
    days: int,
    server: bool,
    client: bool,
) -> tuple[str, str]: ...
def pki_make_csr(common_name: str, organizations: Sequence[str]) -> tuple[str, str]: ...
def pki_make_csr_with_key(common_name: str, organizations: Sequence[str], key: str) -> str: ...
def pki_sign_csr(
    ca_cert: str, ca_key: str, csr: str, common_name: str, organizations: Sequence[str], days: int
) -> str: ...
def pki_inspect(certificate: str) -> tuple[str, list[str], int, int, str, list[str], bool]: ...
def pki_check(certificate: str, ca_cert: str, now: int) -> None: ...
def pki_fingerprint(certificate: str) -> str: ...
def pki_ca_hash(certificate: str) -> str: ...
def pki_csr_key_hash(csr: str) -> str: ...
def pki_same_key(certificate: str, key: str) -> bool: ...
def pki_public_key(key: str) -> str: ...
def pki_jwt_sign(key: str, claims: str, key_id: str) -> str: ...
def pki_jwt_verify(keys: Sequence[str], token: str, now: int, audiences: Sequence[str]) -> str: ...
def pki_jwks(keys: Sequence[str]) -> str: ...
def pki_random_token(bytes: int) -> str: ...

# --- hub ---------------------------------------------------------------------------------------

# --- kube --------------------------------------------------------------------------------------

class KubeClient:
    def __new__(
        cls,
        runtime: Runtime,
        server: str,
        ca: str,
        certificate: str,
        key: str,
        token: str,
        server_name: str,
    ) -> KubeClient: ...
    def set_token(self, token: str) -> None: ...
    def request(
        self,
        ticket: int,
        method: str,
        path: str,
        content_type: str,
        body: bytes,
        timeout_ms: int,
    ) -> None: ...
    def fileno(self) -> int: ...
    def drain(self, limit: int) -> list[tuple[int, int, bytes]]: ...

class Mirror:
    def __new__(
        cls,
        runtime: Runtime,
        client: KubeClient,
        store: Store,
        rows: list[tuple[str, str, str, str]],
    ) -> Mirror: ...
    def fileno(self) -> int: ...
    def drain(self, limit: int) -> list[tuple[str, str, str]]: ...
    def close(self) -> None: ...

# --- kubeapi -----------------------------------------------------------------------------------

class ApiServer:
    def __new__(cls, runtime: Runtime, store: Store, config: str) -> ApiServer: ...
    @property
    def port(self) -> int: ...
    def fileno(self) -> int: ...
    def drain(
        self, limit: int
    ) -> list[
        tuple[
            int, str, str, str, str, str, str, str, str, str, str, list[str], str, str, bytes
        ]
    ]: ...
    def respond(
        self,
        id: int,
        status: int,
        content_type: str,
        body: bytes,
        headers: list[tuple[str, str]],
    ) -> bool: ...
    def set_document(self, path: str, media_type: str, body: bytes, etag: str) -> None: ...
    def set_ready(self, ready: bool) -> None: ...
    def close(self) -> None: ...

# --- cri ---------------------------------------------------------------------------------------
