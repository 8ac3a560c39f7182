# SPDX-License-Identifier: Apache-2.0
"""The three patch formats of the Kubernetes API as one function.

JSON patch (RFC 6902) comes from the ``jsonpatch`` library, merge patch (RFC 7386) is here, and
strategic merge in ``kedge.api.strategic_merge``. All work on plain dicts and change the original.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import strategic_merge
from kedge.errors import BadRequest, Invalid, UnsupportedMediaType

if TYPE_CHECKING:
    from kedge.api.schema import Struct

JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
ACCEPTED = (JSON_PATCH, MERGE, STRATEGIC)
MAX_OPERATIONS = 10_000
"""A JSON patch with more operations is refused."""


def apply(
    original: dict[str, Any], patch: Any, content_type: str, shape: Struct | None
) -> dict[str, Any]:
    """The object after a patch.

    Args:
        original: the object as it is; it may be changed.
        patch: the parsed body; it may be used up.
        content_type: one of ``ACCEPTED``, without parameters.
        shape: the object's type, for strategic merge.

    Raises:
        BadRequest: the patch is malformed.
        Invalid: the patch does not apply to this object.
        UnsupportedMediaType: another format.
    """
    if content_type == JSON_PATCH:
        return _json_patch(original, patch)
    if content_type not in ACCEPTED:
        raise UnsupportedMediaType(unsupported(content_type))
    if type(patch) is not dict:
        raise BadRequest(f"error decoding patch: wanted an object, got: {type(patch).__name__}")
    if content_type == STRATEGIC:
        return strategic_merge.apply(original, patch, shape)
    return merge(original, patch)


def unsupported(content_type: str) -> str:
    """Upstream's words for a patch format that is not served."""
    accepted = ", ".join((*ACCEPTED, APPLY))
    return (
        f"the body of the request was in an unknown format - accepted media types include: {accepted}, "
        f"got: {content_type or 'none'}"
    )


def merge(original: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7386: null deletes, objects merge, everything else replaces."""
    for key, value in patch.items():
        if value is None:
            original.pop(key, None)
        elif type(value) is dict:
            present = original.get(key)
            original[key] = merge(present if type(present) is dict else {}, value)
        else:
            original[key] = value
    return original


def _json_patch(original: dict[str, Any], patch: Any) -> dict[str, Any]:
    import jsonpatch  # noqa: PLC0415 - only where this format is used
    from jsonpointer import JsonPointerException  # noqa: PLC0415

    if type(patch) is not list:
        raise BadRequest(f"error decoding patch: wanted an array, got: {type(patch).__name__}")
    if len(patch) > MAX_OPERATIONS:
        message = (
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}"
        )
        raise BadRequest(message)
    try:
        result = jsonpatch.JsonPatch(patch).apply(original, in_place=True)
    except jsonpatch.InvalidJsonPatch as error:
        raise BadRequest(f"error decoding patch: {error}") from error
    except (jsonpatch.JsonPatchException, JsonPointerException) as error:
        raise Invalid(
            f"the server rejected our request due to an error in our request: {error}"
        ) from error
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise BadRequest(f"error decoding patch: {error}") from error
    if type(result) is not dict:
        raise BadRequest("the patched document is not an object")
    return result
