# SPDX-License-Identifier: Apache-2.0
"""Data written by scripts from Kubernetes' published definitions; nothing here is edited by hand."""
