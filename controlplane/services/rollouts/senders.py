"""One who sends for each service: what one service's canary is sent keeps no other service's canary waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from controlplane.domain.base import ServiceName

Send = Callable[[], bool]
"""Sends what one canary misses until something changes; False when it misses nothing."""


class Senders:
    """Nothing is shared between services. Belongs to one thread; each service sends in a daemon of its own."""

    def __init__(self, services: Callable[[], Sequence[ServiceName]], make: Callable[[ServiceName], Send]) -> None:
        """`services` names those whose canary may miss something; `make` builds a service's sender, the first time."""
        self._services = services
        self._make = make
        self._senders: dict[ServiceName, Send] = {}
        self._under_way: dict[ServiceName, Future[bool]] = {}

    def run_next(self) -> bool:
        """Let each service's sender go on that does not send. Raises what one of them raised, the others send on."""
        wanted = self._services()
        for service in [each for each, future in self._under_way.items() if future.done()]:
            self._under_way.pop(service).result()
        for service in wanted:
            if service not in self._under_way:
                self._start(service)
        for gone in self._senders.keys() - {*wanted, *self._under_way}:
            del self._senders[gone]
        return False

    def _start(self, service: ServiceName) -> None:
        send = self._senders.setdefault(service, self._senders.get(service) or self._make(service))
        future: Future[bool] = Future()
        self._under_way[service] = future
        threading.Thread(target=_run, args=[send, future], name=f"load {service}", daemon=True).start()


def _run(send: Send, future: Future[bool]) -> None:
    try:
        future.set_result(send())
    except BaseException as error:  # noqa: BLE001  # told to whoever asks for the result
        future.set_exception(error)
