# SPDX-License-Identifier: Apache-2.0
"""The ``kedge`` command. Each command's module is imported when it is run, and not before."""
