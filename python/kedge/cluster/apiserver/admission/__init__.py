# SPDX-License-Identifier: Apache-2.0
"""What is decided about an object before it is stored, beyond its own fields.

``PLUGINS`` is the chain: kube-apiserver's plugins that are on by default, in its order, a module each.
A write passes twice: ``admit`` completes the object, then its fields are validated, then ``validate`` refuses it
or lets it pass. What webhooks changed is completed once more. ResourceQuota comes last and stores the write itself
(``resource_quota``). Plugins read the store and change only the object; they are told of what others write.

On by default upstream and elsewhere here: StorageObjectInUseProtection (``strategies``), the plugins of signers' rights
(``signers``), NodeRestriction (nodes have no credentials for this API: ``access.check_cloud`` and ``kedge.cloud``
bound what a node may write).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.cluster.apiserver.admission.certificates import CertificateSubjectRestriction
from kedge.cluster.apiserver.admission.ingress_class import DefaultIngressClass
from kedge.cluster.apiserver.admission.lifecycle import NamespaceLifecycle
from kedge.cluster.apiserver.admission.limit_ranger import LimitRanger
from kedge.cluster.apiserver.admission.node_taint import TaintNodesByCondition
from kedge.cluster.apiserver.admission.pod_security import PodSecurity
from kedge.cluster.apiserver.admission.priority import Priority
from kedge.cluster.apiserver.admission.runtime_class import RuntimeClass
from kedge.cluster.apiserver.admission.service_account import ServiceAccount
from kedge.cluster.apiserver.admission.storage import (
    DefaultStorageClass,
    PersistentVolumeClaimResize,
)
from kedge.cluster.apiserver.admission.tolerations import DefaultTolerationSeconds
from kedge.cluster.apiserver.admission.topology_labels import PodTopologyLabels
from kedge.cluster.apiserver.admission.webhooks import MutatingWebhook, ValidatingWebhook
from kedge.cluster.apiserver.admission.write import CREATE, DELETE, UPDATE, Plugin, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from kedge.api.keys import ObjectKey
    from kedge.cluster.apiserver.admission.webhooks.tunnel import ApiServer
    from kedge.store import Store

    Steps = list[Callable[[Write], Coroutine[Any, Any, None]]]

__all__ = ["CREATE", "DELETE", "PLUGINS", "UPDATE", "Admission", "Write"]

PLUGINS: tuple[type[Plugin], ...] = (
    NamespaceLifecycle,
    LimitRanger,
    ServiceAccount,
    TaintNodesByCondition,
    PodSecurity,
    Priority,
    DefaultTolerationSeconds,
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    RuntimeClass,
    CertificateSubjectRestriction,
    DefaultIngressClass,
    PodTopologyLabels,
    MutatingWebhook,
    ValidatingWebhook,
)


class Admission:
    """The chain.

    Args:
        store: where plugins look things up.
    """

    def __init__(self, store: Store) -> None:
        self._plugins = [plugin(store) for plugin in PLUGINS]
        self._plans: dict[tuple[str, str, str, str], tuple[Steps, Steps]] = {}
        self._watching = [one for one in self._plugins if type(one).watches is not Plugin.watches]
        self._told = [one for one in self._plugins if type(one).written is not Plugin.written]

    def reach_pods(self, api: ApiServer) -> None:
        """Reaches webhooks in pods through the API server from now on, where no route leads to them."""
        for plugin in self._plugins:
            if isinstance(plugin, MutatingWebhook | ValidatingWebhook):
                plugin.caller.api = api

    async def admit(self, write: Write) -> None:
        """Completes an object; its fields are not validated yet."""
        steps = self._plan(write)[0]
        for step in steps:
            await step(write)
        if write.rounds is not None and write.rounds.changed:
            write.rounds.again = True
            for step in steps:
                await step(write)

    async def validate(self, write: Write) -> None:
        """Refuses what may not be.

        Raises:
            ApiError: a plugin's refusal.
        """
        for step in self._plan(write)[1]:
            await step(write)

    def watches(self, write: Write) -> bool:
        """Whether any plugin wants to see a change of a status."""
        return any(plugin.watches(write) for plugin in self._watching)

    def written(self, key: ObjectKey) -> None:
        """Takes note that an object was written or removed."""
        for plugin in self._told:
            plugin.written(key)

    def _plan(self, write: Write) -> tuple[Steps, Steps]:
        kind = write.kind
        name = (write.operation, kind.group, kind.resource, write.subresource)
        plan = self._plans.get(name)
        if plan is None:
            asked = [
                one
                for one in self._plugins
                if write.operation in one.operations and one.concerns(kind, write.subresource)
            ]
            admit: Steps = [one.admit for one in asked if type(one).admit is not Plugin.admit]
            validate: Steps = [
                one.validate for one in asked if type(one).validate is not Plugin.validate
            ]
            plan = self._plans[name] = (admit, validate)
        return plan
