# SPDX-License-Identifier: Apache-2.0
"""What a certificate request (PKCS #10) asks for: names and key, read from PEM and DER. Pure.

Only what decisions need is read; the signature is not checked here (``kedge.hub.certificates`` does that), nor is
anything trusted. Complaints are ``ValueError``, in the words of Go's ``crypto/x509`` where it has some.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 64 * 1024
"""A larger text is refused unread."""
REQUEST, CERTIFICATE = "CERTIFICATE REQUEST", "CERTIFICATE"
_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"

_INTEGER, _BITS, _OCTETS, _OID, _SEQUENCE, _SET = 0x02, 0x03, 0x04, 0x06, 0x30, 0x31
_TEXTS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
_ATTRIBUTES = 0xA0
_EMAIL, _DNS, _URI, _ADDRESS = 0x81, 0x82, 0x86, 0x87
_COMMON_NAME, _ORGANIZATION = b"\x55\x04\x03", b"\x55\x04\x0a"
_EXTENSIONS = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e"
_ALTERNATIVE_NAMES = b"\x55\x1d\x11"
_KEYS = {
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01": "RSA",
    b"\x2a\x86\x48\xce\x3d\x02\x01": "ECDSA",
    b"\x2b\x65\x70": "Ed25519",
}


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """What is asked for.

    Attributes:
        common_name: the subject's CN; empty when there is none.
        organizations: the subject's O values in their order.
        dns_names: alternative names.
        emails: the same.
        addresses: the same, as text.
        uris: the same.
        key: ``RSA``, ``ECDSA``, ``Ed25519``, or empty for another.
    """

    common_name: str = ""
    organizations: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    key: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """A PEM block.

    Attributes:
        label: what it says that it is.
        content: the decoded bytes.
        has_headers: whether there are headers before them.
    """

    label: str
    content: bytes
    has_headers: bool


def blocks(text: bytes) -> Iterator[Block]:
    """The PEM blocks of a text; what is between them, and what is no whole block, does not count."""
    position = 0
    while (begin := text.find(_BEGIN, position)) >= 0:
        label, _, _ = text[begin + len(_BEGIN) : begin + 100].partition(_DASHES)
        start = begin + len(_BEGIN) + len(label) + len(_DASHES)
        end = text.find(_END + label + _DASHES, start)
        if end < 0:
            return
        position = end + len(_END) + len(label) + len(_DASHES)
        lines = [line.strip() for line in text[start:end].splitlines()]
        body = b"".join(line for line in lines if b":" not in line)
        try:
            content = base64.b64decode(body, validate=True)
        except binascii.Error:
            continue
        yield Block(label.decode("latin-1"), content, any(b":" in line for line in lines))


def read(text: bytes) -> CertificateRequest:
    """The request in a PEM text.

    Raises:
        ValueError: there is none, or it is malformed.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"the request may not be larger than {MAX_BYTES} bytes")
    block = next(blocks(text), None)
    if block is None or block.label != REQUEST:
        raise ValueError("PEM block type must be CERTIFICATE REQUEST")
    try:
        return _request(block.content)
    except (IndexError, ValueError) as error:
        raise ValueError("x509: malformed certificate request") from error


def check_certificates(text: bytes) -> None:
    """Looks through the certificates that a signer has given.

    Raises:
        ValueError: something else is among them, or there are none.
    """
    found = 0
    for block in blocks(text):
        if block.label != CERTIFICATE:
            raise ValueError(f'only CERTIFICATE PEM blocks are allowed, found "{block.label}"')
        if block.has_headers:
            raise ValueError("no PEM block headers are permitted")
        try:
            _certificate(block.content)
        except (IndexError, ValueError) as error:
            raise ValueError("x509: malformed certificate") from error
        found += 1
    if not found:
        raise ValueError("must contain at least one CERTIFICATE PEM block")


class _MalformedError(ValueError):
    """No DER, or not of the structure expected."""


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """The elements that follow each other: tag and content."""
    found, position = [], 0
    while position < len(data):
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            size = length & 0x7F
            if not 1 <= size <= 3:
                raise _MalformedError
            length = int.from_bytes(data[position : position + size])
            position += size
        if position + length > len(data):
            raise _MalformedError
        found.append((tag, data[position : position + length]))
        position += length
    return found


def _inside(data: bytes, *tags: int) -> list[bytes]:
    """The contents of elements that must have these tags; more may follow."""
    parts = _parts(data)
    if [tag for tag, _ in parts[: len(tags)]] != list(tags):
        raise _MalformedError
    return [content for _, content in parts]


def _whole(data: bytes, tag: int) -> bytes:
    """The content of the one element that ``data`` is."""
    contents = _inside(data, tag)
    if len(contents) != 1:
        raise _MalformedError
    return contents[0]


def _request(der: bytes) -> CertificateRequest:
    info, _, _ = _inside(_whole(der, _SEQUENCE), _SEQUENCE, _SEQUENCE, _BITS)
    _, subject, key, *_ = _inside(info, _INTEGER, _SEQUENCE, _SEQUENCE)
    algorithm, _ = _inside(key, _SEQUENCE, _BITS)
    names = list(_subject(subject))
    others = list(_alternative_names(info))

    def of(tag: int) -> tuple[str, ...]:
        return tuple(
            str(ipaddress.ip_address(content)) if tag == _ADDRESS else content.decode("ascii")
            for kind, content in others
            if kind == tag
        )

    return CertificateRequest(
        next((value for kind, value in reversed(names) if kind == _COMMON_NAME), ""),
        tuple(value for kind, value in names if kind == _ORGANIZATION),
        of(_DNS),
        of(_EMAIL),
        of(_ADDRESS),
        of(_URI),
        _KEYS.get(_inside(algorithm, _OID)[0], ""),
    )


def _subject(name: bytes) -> Iterator[tuple[bytes, str]]:
    for tag, relative in _parts(name):
        if tag != _SET:
            raise _MalformedError
        for _, pair in _parts(relative):
            (_, kind), (form, value), *_ = _parts(pair)
            if form in _TEXTS:
                yield kind, value.decode(_TEXTS[form])


def _alternative_names(info: bytes) -> Iterator[tuple[int, bytes]]:
    for tag, attributes in _parts(info)[3:]:
        if tag != _ATTRIBUTES:
            continue
        for _, attribute in _parts(attributes):
            kind, values, *_ = _inside(attribute, _OID, _SET)
            if kind != _EXTENSIONS:
                continue
            for extension in _inside(_whole(values, _SEQUENCE)):
                kind, *_, value = _inside(extension, _OID)
                if kind == _ALTERNATIVE_NAMES:
                    yield from _parts(_whole(value, _SEQUENCE))


def _certificate(der: bytes) -> None:
    """Holds the outer structure of certificates against what it must be."""
    contents = _inside(_whole(der, _SEQUENCE), _SEQUENCE, _SEQUENCE, _BITS)
    if len(contents) != 3:
        raise _MalformedError
