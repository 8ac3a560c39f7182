# SPDX-License-Identifier: Apache-2.0
"""A gRPC proxy between an agent and its container runtime that delays, fails, hangs or loses calls by method.

It knows no message: requests and answers pass as bytes. Rules are set by the method's bare name, as in
``RunPodSandbox``; ``*`` means every method.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

STREAMS = {"GetContainerEvents", "Subscribe"}
THREADS = 64
HANG_SECONDS = 600.0


@dataclass
class Rule:
    """What happens to calls of one method.

    Attributes:
        delay_seconds: before the call is passed on.
        error: answered instead of passing it on.
        lose_answer: it is passed on, and its answer replaced by an error: the runtime did it.
        hang: it is never answered, nor passed on.
        times: for how many calls; then the rule is over.
    """

    delay_seconds: float = 0.0
    error: str = ""
    lose_answer: bool = False
    hang: bool = False
    times: int = 1_000_000


class CriProxy(grpc.GenericRpcHandler):
    """Listens at ``path``, passes on to the socket ``target``."""

    def __init__(self, path: Path, target: Path) -> None:
        self.endpoint = f"unix://{path}"
        self.calls: Counter[str] = Counter()
        self._rules: dict[str, Rule] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(f"unix:{target}", options)
        self._server = grpc.server(ThreadPoolExecutor(THREADS), [self], options=options)
        self._server.add_insecure_port(f"unix:{path}")
        self._server.start()

    def rule(self, method: str, rule: Rule | None) -> None:
        """Sets what happens to a method from now on; None takes it back."""
        with self._lock:
            if rule is None:
                self._rules.pop(method, None)
            else:
                self._rules[method] = rule

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Handles every method alike."""
        method = handler_call_details.method
        name = method.rpartition("/")[2]

        def one(request: bytes, context: grpc.ServicerContext) -> bytes:
            rule = self._take(name)
            self._before(rule, context)
            call = self._channel.unary_unary(method)
            try:
                answer: bytes = call(
                    request, timeout=context.time_remaining(), metadata=_metadata(context)
                )
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            if rule.lose_answer:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost on its way")
            return answer

        def many(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            call = self._channel.unary_stream(method)(request, metadata=_metadata(context))
            context.add_callback(call.cancel)
            try:
                yield from call
            except grpc.RpcError as error:
                if context.is_active():
                    context.abort(error.code(), error.details())

        if name in STREAMS:
            return grpc.unary_stream_rpc_method_handler(many)
        return grpc.unary_unary_rpc_method_handler(one)

    def _take(self, name: str) -> Rule:
        with self._lock:
            self.calls[name] += 1
            rule = self._rules.get(name) or self._rules.get("*") or Rule()
            rule.times -= 1
            if rule.times <= 0:
                self._rules = {key: one for key, one in self._rules.items() if one is not rule}
            return rule

    def _before(self, rule: Rule, context: grpc.ServicerContext) -> None:
        if rule.hang:
            deadline = time.monotonic() + HANG_SECONDS
            while context.is_active() and time.monotonic() < deadline and not self._over.wait(0.05):
                continue
            context.abort(grpc.StatusCode.CANCELLED, "it hung")
        if rule.delay_seconds:
            self._over.wait(rule.delay_seconds)
        if rule.error:
            context.abort(grpc.StatusCode.UNKNOWN, rule.error)

    def stop(self) -> None:
        """Ends it with all that is under way."""
        self._over.set()
        self._server.stop(0).wait(5)
        self._channel.close()


def _metadata(context: grpc.ServicerContext) -> list[tuple[str, str]]:
    return [
        (one.key, one.value)
        for one in context.invocation_metadata()
        if one.key.startswith("containerd-")
    ]
