# SPDX-License-Identifier: Apache-2.0
"""What is wrong with an object, collected in upstream's words.

A rule gets a ``Problems`` and a path and adds what it finds; ``raise_for`` turns a non-empty
collection into the ``Invalid`` error whose ``Status`` lists every cause.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kedge.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PROBLEMS = 100
"""More are not listed."""


class Problems:
    """The causes found so far."""

    __slots__ = ("causes",)

    def __init__(self) -> None:
        self.causes: list[dict[str, str]] = []

    def __bool__(self) -> bool:
        return bool(self.causes)

    def required(self, path: str, detail: str = "") -> None:
        """A field is missing."""
        self._add("FieldValueRequired", path, "Required value" + (f": {detail}" if detail else ""))

    def invalid(self, path: str, value: Any, detail: str) -> None:
        """A value is against a rule."""
        self._add("FieldValueInvalid", path, f"Invalid value: {_shown(value)}: {detail}")

    def forbidden(self, path: str, detail: str) -> None:
        """A field may not be set, or not changed."""
        self._add("FieldValueForbidden", path, f"Forbidden: {detail}")

    def duplicate(self, path: str, value: Any) -> None:
        """A value that must be unique is not."""
        self._add("FieldValueDuplicate", path, f"Duplicate value: {_shown(value)}")

    def not_found(self, path: str, value: Any) -> None:
        """A name refers to nothing."""
        self._add("FieldValueNotFound", path, f"Not found: {_shown(value)}")

    def too_long(self, path: str, limit: int) -> None:
        """Too many bytes."""
        self._add("FieldValueTooLong", path, f"Too long: may not be more than {limit} bytes")

    def too_many(self, path: str, count: int, limit: int) -> None:
        """More elements than there may be."""
        self._add("FieldValueTooMany", path, f"Too many: {count}: must have at most {limit} items")

    def unfit(self, path: str, detail: str) -> None:
        """A value that is not shown is against a rule."""
        self._add("FieldValueInvalid", path, f"Invalid value: {detail}")

    def unsupported(self, path: str, value: Any, allowed: Iterable[str]) -> None:
        """A value is not one of those, in the order given."""
        names = ", ".join(f'"{name}"' for name in allowed)
        message = f"Unsupported value: {_shown(value)}: supported values: {names}"
        self._add("FieldValueNotSupported", path, message)

    def choice(self, path: str, value: Any, allowed: Iterable[str]) -> None:
        """Notes a value that is not one of ``allowed``; a missing one is required."""
        options = tuple(allowed)
        if value in options:
            return
        if value is None or value == "":
            self.required(path)
            return
        names = ", ".join(f'"{name}"' for name in sorted(options))
        self._add(
            "FieldValueNotSupported",
            path,
            f"Unsupported value: {_shown(value)}: supported values: {names}",
        )

    def text(self, path: str, value: str, complaint: str) -> None:
        """Notes a name that one of ``kedge.api.names`` complains about."""
        if complaint:
            self.invalid(path, value, complaint)

    def immutable(self, path: str, old: Any, new: Any) -> None:
        """Notes a change of what cannot change."""
        if old != new:
            self.invalid(path, new, "field is immutable")

    def raise_for(self, group: str, kind: str, name: str) -> None:
        """Raises when anything was found.

        Raises:
            Invalid: with every cause.
        """
        if self.causes:
            raise Invalid(self._message(group, kind, name), self._details(group, kind, name))

    def _message(self, group: str, kind: str, name: str) -> str:
        shown = f"{kind}.{group}" if group else kind
        texts = [f"{cause['field']}: {cause['message']}" for cause in self.causes]
        listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        return f'{shown} "{name}" is invalid: {listed}'

    def _details(self, group: str, kind: str, name: str) -> dict[str, object]:
        details: dict[str, object] = {"name": name, "kind": kind, "causes": self.causes}
        if group:
            details["group"] = group
        return details

    def _add(self, reason: str, path: str, message: str) -> None:
        if len(self.causes) < MAX_PROBLEMS:
            self.causes.append({"reason": reason, "message": message, "field": path})


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))[:1000]
