# SPDX-License-Identifier: Apache-2.0
"""CronJobs.

``schedule`` says which start is due and when the next one is, ``plan`` what becomes of the Jobs that
there are and whether another is made; these are pure. ``controller`` acts.
"""
