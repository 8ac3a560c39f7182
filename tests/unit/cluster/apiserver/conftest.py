# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import sys

from tests.fakes import memory_store

if importlib.util.find_spec("kedge.store") is None:
    sys.modules["kedge.store"] = memory_store
