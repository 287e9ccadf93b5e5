"""The chart of what the twin expects: a line, its band without points of its own, and what was measured."""

from __future__ import annotations

from controlplane.domain.base import ServiceName
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.operations.what_if import Expected, ExpectedPoint, WhatIfAnswer
from dashboards.charts import what_if as charts_what_if
from tests.e2e.dashboard.seed import a_chat_spec

SPEC = a_chat_spec()
SLO = SPEC.slos.latency[0]


def test_only_what_was_measured_is_a_point() -> None:
    name = charts_what_if.latency_name(SLO)
    points = [
        ExpectedPoint(rate_rps=rate, saturated=False, latency={name: Expected(value=9, low=8, high=10)}, kv_usage=0.1)
        for rate in (1.0, 2.0)
    ]
    answer = WhatIfAnswer(service=ServiceName("chat"), config=EngineConfig(), profile="p", curve=tuple(points))
    band, twin = charts_what_if.curve(answer, SLO, []).data
    assert (band.mode, twin.mode) == ("lines", "lines")
    assert list(twin.x) == [1.0, 2.0]
