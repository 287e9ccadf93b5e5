"""A request's way is put together in one order, of the stages that are on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from aiohttp import web

from controlplane.gateway.exchange import Exchange, Next
from controlplane.gateway.pipeline import Pipeline
from controlplane.gateway.pools import Route


class Noted:
    """A stage that notes when it was passed, on for the services it is told."""

    def __init__(self, name: str, on_for: Sequence[str], passed: list[str]) -> None:
        self.name, self.on_for, self.passed = name, on_for, passed
        self.asked = 0

    def is_on(self, route: Route) -> bool:
        self.asked += 1
        return route.service in self.on_for

    async def __call__(self, exchange: Exchange, rest: Next) -> web.StreamResponse:
        self.passed.append(self.name)
        response = await rest(exchange)
        self.passed.append(f"/{self.name}")
        return response


def an_exchange(service: str) -> Exchange:
    nothing = cast(Any, None)  # no stage of these tests looks at it
    return Exchange(nothing, nothing, Route(service=service, model=service), nothing)


async def test_stages_are_passed_in_order_and_those_that_are_off_are_not_there() -> None:
    passed: list[str] = []
    stages = [Noted("a", ["x", "y"], passed), Noted("b", ["y"], passed), Noted("c", ["x", "y"], passed)]

    async def answer(exchange: Exchange) -> web.StreamResponse:
        passed.append("answer")
        return web.Response()

    pipeline = Pipeline(stages, answer)
    await pipeline(an_exchange("x"))
    assert passed == ["a", "c", "answer", "/c", "/a"]
    passed.clear()
    await pipeline(an_exchange("y"))
    assert passed == ["a", "b", "c", "answer", "/c", "/b", "/a"]


async def test_the_way_of_a_route_is_put_together_once() -> None:
    stage = Noted("a", ["x"], [])

    async def answer(exchange: Exchange) -> web.StreamResponse:
        return web.Response()

    pipeline, exchange = Pipeline([stage], answer), an_exchange("x")
    for _ in range(3):
        await pipeline(exchange)
    assert stage.asked == 1
