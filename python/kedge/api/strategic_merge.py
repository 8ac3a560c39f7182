# SPDX-License-Identifier: Apache-2.0
"""Strategic-merge patch: a merge patch that knows which lists are maps.

Lists whose field has the strategy ``merge`` are merged element by element, found by merge key or,
for scalars, as a set; all other lists are replaced. Directives in a patch: ``$patch`` (``replace``,
``delete``), ``$retainKeys``, ``$setElementOrder/FIELD`` and ``$deleteFromPrimitiveList/FIELD``. The
result has the order upstream gives: elements named in the patch in its order, the others where they
stood relative to them.

``apply`` changes and returns the original; the patch is not to be used afterwards.
"""

from __future__ import annotations

from typing import Any

from kedge.api.schema import Field, Struct
from kedge.errors import BadRequest

DIRECTIVE = "$patch"
RETAIN = "$retainKeys"
ORDER = "$setElementOrder/"
DELETE_PRIMITIVE = "$deleteFromPrimitiveList/"
_PREFIXES = (ORDER, DELETE_PRIMITIVE)
_ANY = Field("any")

Object = dict[str, Any]


def apply(original: Object, patch: Object, shape: Struct | None) -> Object:
    """Merges ``patch`` into ``original``.

    Args:
        original: the object as it is; it is changed.
        patch: what should change; it is used up.
        shape: the object's type; without one, all lists are replaced.

    Raises:
        BadRequest: the patch is malformed.
    """
    if DIRECTIVE in patch:
        return _directive(patch)
    _retain(original, patch)
    ordered = {key[len(ORDER) :]: patch.pop(key) for key in list(patch) if key.startswith(ORDER)}
    for key, order in ordered.items():
        _apply_order(original, patch, key, order, shape)
    for key, value in patch.items():
        if key.startswith(DELETE_PRIMITIVE):
            _delete_primitives(original, key[len(DELETE_PRIMITIVE) :], value)
        elif value is None:
            original.pop(key, None)
        else:
            _merge_value(original, key, value, shape)
    return original


def _merge_value(original: Object, key: str, value: Any, shape: Struct | None) -> None:
    present = original.get(key)
    if present is None or type(present) is not type(value):
        original[key] = stripped(value)
        if original[key] is _GONE:
            del original[key]
    elif type(value) is dict:
        field = _field(shape, key)
        if field.strategies and "replace" in field.strategies:
            original[key] = stripped(value)
        else:
            original[key] = apply(present, value, _inner(field))
    elif type(value) is list:
        original[key] = _merge_list(present, value, _field(shape, key), key)
    else:
        original[key] = value


def _directive(patch: Object) -> Object:
    directive = patch.pop(DIRECTIVE)
    if directive == "replace":
        result: Object = stripped(patch)
        return result
    if directive == "delete":
        return {}
    raise BadRequest(f"unknown patch type found in {DIRECTIVE}: {directive!r}")


def _retain(original: Object, patch: Object) -> None:
    if RETAIN not in patch:
        return
    keep = patch.pop(RETAIN)
    if type(keep) is not list:
        raise BadRequest(f"{RETAIN}: wanted a list, got: {type(keep).__name__}")
    for key, value in patch.items():
        if value is not None and key not in keep and not key.startswith(_PREFIXES):
            raise BadRequest(f"{RETAIN}: the patch sets a field that is not retained: {key}")
    for key in [key for key in original if key not in keep]:
        del original[key]


def _delete_primitives(original: Object, key: str, values: Any) -> None:
    present = original.get(key)
    if type(values) is not list:
        raise BadRequest(f"{DELETE_PRIMITIVE}{key}: wanted a list, got: {type(values).__name__}")
    if type(present) is list:
        original[key] = [item for item in present if item not in values]


def _apply_order(
    original: Object, patch: Object, key: str, order: Any, shape: Struct | None
) -> None:
    if type(order) is not list:
        raise BadRequest(f"{ORDER}{key}: wanted a list, got: {type(order).__name__}")
    field = _field(shape, key)
    present, changes = original.get(key), patch.pop(key, None)
    for value, where in ((present, "the object"), (changes, "the patch")):
        if value is not None and type(value) is not list:
            raise BadRequest(f"{ORDER}{key}: the field is not a list in {where}")
    _check_order(changes or [], order, field.merge_key, key)
    if present is None and changes is None:
        return
    if changes is None:
        merged = present or []
    elif present is None:
        merged = stripped(changes)
    else:
        merged = _merge_list(list(present), changes, field, key)
    original[key] = _sorted(merged, order, present or [], field.merge_key)


def _check_order(changes: list[Any], order: list[Any], merge_key: str, name: str) -> None:
    """The order must name every element that the patch sets, in the same sequence."""
    wanted = [_identity(item, merge_key) for item in order]
    position = 0
    for item in changes:
        if type(item) is dict and DIRECTIVE in item:
            continue
        identity = _identity(item, merge_key)
        try:
            position = wanted.index(identity, position) + 1
        except ValueError:
            message = f"the order in patch list doesn't match {ORDER}{name} list: {identity!r}"
            raise BadRequest(message) from None


def _merge_list(present: list[Any], changes: list[Any], field: Field, name: str) -> list[Any]:
    if "merge" not in field.strategies:
        result: list[Any] = stripped(changes)
        return result
    if not present and not changes:
        return present
    if type((present or changes)[0]) is not dict:
        merged = list(dict.fromkeys([*present, *changes]))
        return _sorted(merged, changes, present, "")
    if not field.merge_key:
        raise BadRequest(f"cannot merge lists without merge key for {name}")
    return _merge_structs(present, changes, field)


def _merge_structs(present: list[Any], changes: list[Any], field: Field) -> list[Any]:
    key = field.merge_key
    before = list(present)
    present, changes, replaces = _special(present, changes, key)
    if replaces:
        result: list[Any] = stripped(changes)
        return result
    shape = _inner(field.item or _ANY)
    where = {_identity(item, key): index for index, item in reversed(list(enumerate(present)))}
    for change in changes:
        identity = _identity(change, key)
        if identity is None:
            raise BadRequest(f"map: {change} does not contain declared merge key: {key}")
        index = where.get(identity)
        if index is None:
            where[identity] = len(present)
            present.append(stripped(change))
        else:
            present[index] = apply(present[index], change, shape)
    return _sorted(present, changes, before, key)


def _special(present: list[Any], changes: list[Any], key: str) -> tuple[list[Any], list[Any], bool]:
    """Carries out elements that are directives; what is left of both lists, and whether to replace."""
    plain: list[Any] = []
    replaces = False
    for change in changes:
        if type(change) is not dict:
            raise BadRequest(f"wanted a list of objects, got: {type(change).__name__}")
        if DIRECTIVE not in change:
            plain.append(change)
        elif change[DIRECTIVE] == "replace":
            replaces = True
        elif change[DIRECTIVE] == "delete":
            identity = _identity(change, key)
            if identity is None:
                raise BadRequest(f"map: {change} does not contain declared merge key: {key}")
            present = [item for item in present if _identity(item, key) != identity]
        else:
            raise BadRequest(f"unknown patch type found in {DIRECTIVE}: {change[DIRECTIVE]!r}")
    return present, plain, replaces


def _sorted(merged: list[Any], order: list[Any], before: list[Any], key: str) -> list[Any]:
    """``merged`` with the elements of ``order`` in that order, and the others where they stood."""
    wanted = _positions(order, key)
    stood = _positions(before, key)
    named = [item for item in merged if _identity(item, key) in wanted]
    others = [item for item in merged if _identity(item, key) not in wanted]
    named.sort(key=lambda item: wanted[_identity(item, key)])
    others.sort(key=lambda item: stood.get(_identity(item, key), len(stood)))
    result: list[Any] = []
    left = right = 0
    while left < len(others) and right < len(named):
        mine = stood.get(_identity(others[left], key), -1)
        theirs = stood.get(_identity(named[right], key), -1)
        if mine >= 0 and theirs >= 0 and mine < theirs:
            result.append(others[left])
            left += 1
        else:
            result.append(named[right])
            right += 1
    return result + named[right:] + others[left:]


def _positions(items: list[Any], key: str) -> dict[Any, int]:
    return {_identity(item, key): index for index, item in reversed(list(enumerate(items)))}


def _identity(item: Any, key: str) -> Any:
    if type(item) is dict:
        value = item.get(key) if key else None
        return str(value) if type(value) in (dict, list) else value
    return str(item) if type(item) is list else item


_GONE: Any = object()


def stripped(value: Any) -> Any:
    """A value from a patch as it is stored where nothing was: without nulls and directives."""
    if type(value) is list:
        plain = [item for item in value if type(item) is not dict or DIRECTIVE not in item]
        return [stripped(item) for item in plain]
    if type(value) is not dict:
        return value
    if value.get(DIRECTIVE) == "delete":
        return _GONE
    return {
        key: clean
        for key, item in value.items()
        if item is not None and not key.startswith("$") and (clean := stripped(item)) is not _GONE
    }


def _field(shape: Struct | None, key: str) -> Field:
    return shape.fields.get(key, _ANY) if shape is not None else _ANY


def _inner(field: Field) -> Struct | None:
    return field.struct
