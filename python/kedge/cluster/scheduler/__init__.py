# SPDX-License-Identifier: Apache-2.0
"""The scheduler.

``snapshot`` is what it knows; ``filters``, ``spread`` and ``scores`` judge a node; ``core`` picks
one; ``waiting`` holds the pods; ``loop`` feeds it and binds. All but the last are pure.
"""

from kedge.cluster.scheduler.loop import Scheduler

__all__ = ["Scheduler"]
