"""Canaries of several services are sent their load at the same time."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from controlplane.domain.base import ServiceName
from controlplane.domain.errors import Unavailable
from controlplane.services.rollouts.senders import Send, Senders

CHAT, CODE = ServiceName("chat"), ServiceName("code")
LONG_S = 60.0


class Sending:
    """What was made and sent; a service's sender goes on until it is let go."""

    def __init__(self, *services: ServiceName) -> None:
        self.services = list(services)
        self.made: Counter[ServiceName] = Counter()
        self.began = {each: threading.Event() for each in services}
        self.go = {each: threading.Event() for each in services}
        self.over = {each: threading.Event() for each in services}
        self.broken: set[ServiceName] = set()
        self.senders = Senders(lambda: self.services, self.make)

    def make(self, service: ServiceName) -> Send:
        self.made[service] += 1

        def send() -> bool:
            self.began[service].set()
            assert self.go[service].wait(LONG_S)
            self.over[service].set()
            if service in self.broken:
                raise Unavailable("the generator broke")
            return True

        return send

    def end(self, service: ServiceName) -> None:
        self.go[service].set()
        assert self.over[service].wait(LONG_S)
        for thread in threading.enumerate():
            if thread.name == f"load {service}":
                thread.join(LONG_S)


def test_a_canary_waits_for_no_other_service_s_load() -> None:
    sending = Sending(CHAT, CODE)
    sending.senders.run_next()
    assert all(each.wait(LONG_S) for each in sending.began.values())
    sending.end(CODE)
    sending.senders.run_next()
    assert sending.made == {CHAT: 1, CODE: 1}
    sending.end(CHAT)


def test_what_breaks_for_one_service_is_raised_and_ends_no_other() -> None:
    sending = Sending(CHAT, CODE)
    sending.broken.add(CODE)
    sending.senders.run_next()
    sending.end(CODE)
    with pytest.raises(Unavailable):
        sending.senders.run_next()
    assert not sending.over[CHAT].is_set()
    sending.end(CHAT)


def test_nothing_is_remembered_of_a_service_without_a_rollout() -> None:
    sending = Sending(CHAT)
    sending.senders.run_next()
    sending.end(CHAT)
    sending.services.clear()
    sending.senders.run_next()
    sending.services.append(CHAT)
    sending.senders.run_next()
    assert sending.made == {CHAT: 2}
    sending.end(CHAT)
