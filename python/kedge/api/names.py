# SPDX-License-Identifier: Apache-2.0
"""Which names are legal: RFC 1123 labels and subdomains, label keys and values, ports, paths.

Each function gives the complaint in upstream's words, or an empty text when the name is legal.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache

_PORT_MARKS = re.compile(r"[-a-z0-9]+")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_PORT = re.compile(r"[-a-z0-9]+")
_PATH = re.compile(r"[0-9A-Za-z/\-._~%!$&'()*+,;=:]+")
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"

LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
QUALIFIED_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation "
    "is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
CONFIG_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    "or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)


@lru_cache(maxsize=2048)
def label(name: str) -> str:
    """A DNS label (RFC 1123), as of namespaces and containers."""
    if len(name) > 63:
        return "must be no more than 63 characters"
    return "" if _LABEL.fullmatch(name) else LABEL_RULE


@lru_cache(maxsize=512)
def label_1035(name: str) -> str:
    """A DNS label that starts with a letter."""
    if len(name) > 63:
        return "must be no more than 63 characters"
    return "" if _LABEL_1035.fullmatch(name) else LABEL_1035_RULE


def subdomain(name: str) -> str:
    """A DNS subdomain, as of most objects."""
    if len(name) > 253:
        return "must be no more than 253 characters"
    return "" if _SUBDOMAIN.fullmatch(name) else SUBDOMAIN_RULE


@lru_cache(maxsize=4096)
def qualified(key: str) -> str:
    """A label or annotation key: ``name`` or ``prefix/name``."""
    prefix, slash, name = key.rpartition("/")
    if slash:
        if not prefix:
            return "prefix part must be non-empty"
        if complaint := subdomain(prefix):
            return f"prefix part {complaint}"
    if not name:
        return "name part must be non-empty"
    if len(name) > 63:
        return "name part must be no more than 63 characters"
    return "" if _QUALIFIED.fullmatch(name) else QUALIFIED_RULE


@lru_cache(maxsize=8192)
def label_value(value: str) -> str:
    """A label's value."""
    if len(value) > 63:
        return "must be no more than 63 characters"
    return "" if _VALUE.fullmatch(value) else VALUE_RULE


def port_name(name: str) -> list[str]:
    """A port's name (RFC 6335); everything that is wrong with it."""
    rules = (
        (len(name) > 15, "must be no more than 15 characters"),
        (
            not _PORT_MARKS.fullmatch(name),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (not any("a" <= mark <= "z" for mark in name), "must contain at least one letter (a-z)"),
        ("--" in name, "must not contain consecutive hyphens"),
        (name.strip("-") != name, "must not begin or end with a hyphen"),
    )
    return [complaint for is_broken, complaint in rules if is_broken]


def config_key(key: str) -> str:
    """A key in a ConfigMap or Secret."""
    if len(key) > 253:
        return "must be no more than 253 characters"
    if key in (".", "..") or key.startswith(".."):
        return "must not be '.' or start with '..'"
    return "" if _CONFIG_KEY.fullmatch(key) else CONFIG_KEY_RULE


def port(name: str) -> str:
    """A port's name (RFC 6335)."""
    if len(name) > 15:
        return "must be no more than 15 characters"
    if not _PORT.fullmatch(name):
        return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not any(mark.isalpha() for mark in name):
        return "must contain at least one letter (a-z)"
    if "--" in name:
        return "must not contain consecutive hyphens"
    if name[0] == "-" or name[-1] == "-":
        return "must not begin or end with a hyphen"
    return ""


def domain_path(name: str) -> str:
    """A name within a domain: ``example.com/name``."""
    domain, _, path = name.partition("/")
    if not domain or not path:
        return 'must be a domain-prefixed path (such as "acme.io/foo")'
    if complaint := subdomain(domain):
        return complaint
    return (
        ""
        if _PATH.fullmatch(path)
        else f"Invalid path (regex used for validation is '{_PATH.pattern}')"
    )


def path_segment(name: str) -> str:
    """What any name must hold, since it stands in paths."""
    if name in (".", ".."):
        return f"may not be '{name}'"
    return next((f"may not contain '{mark}'" for mark in "/%" if mark in name), "")


def generated(prefix: str) -> str:
    """A name from ``generateName``: the prefix, cut to fit, and five random characters."""
    return prefix[:58] + "".join([_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(5)])
