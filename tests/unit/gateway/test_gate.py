"""The gate: so many pass, the others wait in order, leave when they like, and are told when there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from controlplane.domain.door.fair_queue import Waiting
from controlplane.domain.door.identity import PriorityClass
from controlplane.domain.door.queue_options import QueueOptions
from controlplane.gateway.gate import Gate, Refused, Turned

VIP, NORMAL, BATCH = PriorityClass.VIP, PriorityClass.NORMAL, PriorityClass.BATCH


class Door:
    """A gate with so many places, and who passed it in their order."""

    def __init__(self, places: int, *, expects_vips: bool = False, **options: Any) -> None:
        self.places = places
        patient = {"max_wait_s": 3600, "batch_max_wait_s": 3600, "vip_beyond_percent": 0}
        self.gate = Gate(
            QueueOptions(**(patient | options)), lambda: self.places, lambda: 0.0, expects_vips=expects_vips
        )
        self.passed: list[str] = []
        self.asking: dict[str, asyncio.Task[Turned | None]] = {}

    async def ask(self, *names: str, priority: PriorityClass = NORMAL) -> None:
        for name in names:
            self.asking[name] = asyncio.create_task(self._enter(name, priority))
            await asyncio.sleep(0)

    async def _enter(self, name: str, priority: PriorityClass) -> Turned | None:
        turned = await self.gate.enter(Waiting(name[0], priority, 10))
        if turned is None:
            self.passed.append(name)
        return turned

    async def leave(self, times: int = 1) -> Sequence[str]:
        for _ in range(times):
            self.gate.leave()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return self.passed


async def test_as_many_pass_as_there_are_places_and_tenants_take_turns() -> None:
    door = Door(2)
    await door.ask("a1", "a2", "a3", "a4", "b1")
    assert door.passed == ["a1", "a2"]
    assert await door.leave(3) == ["a1", "a2", "a3", "b1", "a4"]


async def test_vips_come_first_and_find_places_kept_for_them() -> None:
    door = Door(10, vip_reserve_percent=40)
    await door.ask("v1", priority=VIP)
    await door.ask(*(f"a{number}" for number in range(9)))
    assert len(door.passed) == 6  # the first vip and five others
    await door.ask("v2", "v3", "v4", "v5", priority=VIP)
    assert door.passed[-4:] == ["v2", "v3", "v4", "v5"]
    await door.ask("v6", priority=VIP)
    await door.leave()
    assert door.passed[-1] == "v6"
    for each in door.asking.values():
        each.cancel()


async def test_places_are_kept_before_the_first_vip_comes_where_one_is_expected() -> None:
    """A third of them while nobody knows how many vips come, a tenth once as many left as there are places."""
    door = Door(10, expects_vips=True)
    await door.ask(*(f"a{number}" for number in range(20)))
    assert len(door.passed) == 7
    await door.ask("v1", "v2", "v3", priority=VIP)
    assert door.passed[-3:] == ["v1", "v2", "v3"]
    await door.leave(10)
    assert door.gate.in_flight == 7
    for number in range(200):
        await door.ask(f"b{number}")
        await door.leave()
    assert door.gate.in_flight == 9
    for each in door.asking.values():
        each.cancel()


async def test_vips_that_find_no_place_go_beyond_them_and_the_others_wait_until_there_are_places_again() -> None:
    door = Door(10, vip_reserve_percent=0, vip_beyond_percent=15)
    await door.ask(*(f"a{number}" for number in range(12)))
    assert door.gate.in_flight == 10
    await door.ask("v1", "v2", "v3", priority=VIP)
    assert door.passed[10:] == ["v1", "v2"]  # 1.5, rounded up
    await door.leave()
    assert door.passed[-1] == "v3"
    await door.leave(2)
    assert door.gate.in_flight == 10
    assert door.passed[-1] == "v3"
    await door.leave()
    assert door.passed[-1] == "a10"
    for each in door.asking.values():
        each.cancel()


@pytest.mark.parametrize(
    ("vips_in_ten", "declared", "kept"),
    [(0, 10, 10), (1, 10, 10), (2, 10, 11), (4, 10, 15), (10, 10, 24), (10, 0, 0), (10, 40, 40)],
)
async def test_the_more_vips_come_the_more_places_are_kept_for_them(
    vips_in_ten: int, declared: float, kept: int
) -> None:
    """At ten percent vips ten of a hundred places are theirs: 2.33 x sqrt(10) = 7.4, and 10 are declared."""
    door = Door(100, vip_reserve_percent=declared)
    await door.ask("v", priority=VIP)
    await door.leave()
    for number in range(500):
        await door.ask(f"w{number}", priority=VIP if number % 10 < vips_in_ten else NORMAL)
        await door.leave()
    before = len(door.passed)
    await door.ask(*(f"a{number}" for number in range(110)))
    assert 100 - (len(door.passed) - before) == pytest.approx(kept, abs=1)
    for each in door.asking.values():
        each.cancel()


async def test_where_places_are_few_no_more_than_a_third_are_kept() -> None:
    door = Door(6)
    for number in range(200):
        await door.ask(f"v{number}", priority=VIP)
        await door.leave()
    before = len(door.passed)
    await door.ask(*(f"a{number}" for number in range(10)))
    assert len(door.passed) - before == 4
    for each in door.asking.values():
        each.cancel()


async def test_who_leaves_while_waiting_takes_no_place() -> None:
    door = Door(1)
    await door.ask("a1", "b1", "c1")
    door.asking["b1"].cancel()
    await asyncio.sleep(0)
    assert await door.leave() == ["a1", "c1"]
    await door.leave()
    assert (door.gate.in_flight, len(door.gate.queue)) == (0, 0)


async def test_who_leaves_in_the_moment_of_its_turn_gives_the_place_on() -> None:
    for order in (("cancel", "leave"), ("leave", "cancel")):
        door = Door(1)
        await door.ask("a1", "b1", "c1")
        for step in order:
            if step == "cancel":
                door.asking["b1"].cancel()
            else:
                door.gate.leave()
        for _ in range(4):
            await asyncio.sleep(0)
        assert door.passed == ["a1", "c1"]
        assert door.gate.in_flight == 1


async def test_a_full_queue_turns_the_least_away() -> None:
    door = Door(1, most_waiting=2)
    await door.ask("a1", "a2")
    await door.ask("n1", priority=BATCH)
    await door.ask("v1", priority=VIP)
    turned = await door.asking["n1"]
    assert turned is not None
    assert (turned.why, turned.retry_after_s >= 1) == (Refused.FULL, True)
    assert await door.leave(2) == ["a1", "v1", "a2"]


async def test_waiting_has_an_end() -> None:
    door = Door(1, max_wait_s=0.01)
    await door.ask("a1", "b1")
    turned = await door.asking["b1"]
    assert turned is not None
    assert turned.why is Refused.TIMEOUT
    await door.leave()
    assert (door.passed, door.gate.in_flight, len(door.gate.queue)) == (["a1"], 0, 0)


async def test_new_places_are_noticed_by_those_who_wait() -> None:
    door = Door(1)
    await door.ask("a1", "b1")
    door.places = 2
    assert await door.asking["b1"] is None  # nobody left
    door.gate.use(door.gate.options.evolve(most_waiting=1))
    await door.ask("c1", "d1")
    assert await door.asking["d1"] is not None
    door.asking["c1"].cancel()
