# SPDX-License-Identifier: Apache-2.0
"""Node lifecycle: ``health`` decides and is pure, ``controller`` acts."""
