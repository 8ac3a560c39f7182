# SPDX-License-Identifier: Apache-2.0
"""ReplicaSets and ReplicationControllers: as many pods as asked for.

``plan`` decides from the workload and the pods seen; the controller acts. Pods of a node out of
reach are not ready but still count: nothing is created in their place, for they run on. Only a pod
that is finished or being deleted is replaced.
"""
