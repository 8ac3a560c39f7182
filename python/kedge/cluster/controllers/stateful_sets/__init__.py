# SPDX-License-Identifier: Apache-2.0
"""StatefulSets: pods with stable names, made, updated and taken away in order.

``model`` reads them, ``plan`` says what to create and delete, ``pods`` what is created, ``claims``
who owns the pods' claims, ``status`` what to report; these are pure. ``members`` acts on one pod and
its claims, ``controller`` on a StatefulSet.
"""
