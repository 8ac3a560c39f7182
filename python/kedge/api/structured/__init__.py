# SPDX-License-Identifier: Apache-2.0
"""Structured merge: who owns which fields of an object, and what server-side apply makes of it. Pure.

``types`` says how a kind's values are built, whatever described them; ``sets`` are sets of fields in the
form of ``FieldsV1``; ``compare`` and ``merging`` work on values by their types, ``problems`` checks them.
``entries`` reads and writes ``metadata.managedFields``, and ``managers`` puts all together as the two things
that happen to an object: ``update`` and ``apply``.
"""
