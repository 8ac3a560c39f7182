# SPDX-License-Identifier: Apache-2.0
"""DaemonSets.

``placement`` says where pods belong, ``plan`` what to create and delete, ``status`` what to report;
these are pure. ``controller`` acts.
"""
