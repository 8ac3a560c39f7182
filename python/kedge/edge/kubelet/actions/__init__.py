# SPDX-License-Identifier: Apache-2.0
"""What a plan's actions do: each one talks to the runtime, records Events, and updates the worker."""
