# SPDX-License-Identifier: Apache-2.0
"""Jobs.

``model`` is a Job as decisions see it, ``policies`` what its pods' ends mean, ``backoff`` how long to
wait after failures, ``plan`` decides which pods to create and delete and whether the Job has ended,
``tracking`` counts pods once and only once; these are pure. ``pods`` makes a pod, ``claims`` takes
pods in and lets them go, ``controller`` acts.
"""
