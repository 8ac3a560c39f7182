# SPDX-License-Identifier: Apache-2.0
"""The API server of the other package's tests serves these too."""

from tests.integration.kubeapi.conftest import api, keys, runtime

__all__ = ["api", "keys", "runtime"]
