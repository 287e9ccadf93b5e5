"""GPUs in the words of the command line: a dash for what nobody tells, nothing where nothing holds a card back."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.api.fleet import _targets
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.engines.gpu import GpuReading, Throttle
from tests.builders_serving import NOW, a_service
from tests.fakes.metrics_source import FakeMetricsSource
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import OneEngine, an_api


@pytest.fixture
def api(store: FakeStore) -> TestClient:
    source = FakeMetricsSource(lambda: NOW, stale_after_s=60)
    source.tell_gpus("llama-8b", "e1", NOW, GpuReading("0", 128.0, 140.0, 97.0, None, 71.0, (Throttle.HW_THERMAL,)))
    source.tell_gpus("llama-8b", "e2", NOW, GpuReading("1", 8.0, 140.0, 3.0, 90.0, 30.0, ()))
    source.tell_gpus("llama-8b", "e3", NOW, GpuReading("2"))
    return an_api(store, metrics=source)


def test_each_gpu_is_a_row_and_what_nobody_tells_a_dash(run: Any) -> None:
    code, text = run("fleet", "gpus", "llama-8b", "-o", "wide")
    assert code == 0
    assert "e1 0 128.0 140.0 97 – 71 thermal, by the hardware" in text
    assert "e2 1 8.0 140.0 3 90 30 nothing" in text
    assert "e3 2 – – – – – –" in text
    assert "fleetune doctor" in run("fleet", "gpus", "other")[1]


def test_the_status_shows_them_where_asked_for_more(run: Any, store: FakeStore) -> None:
    store.save_service(a_service(), 0)
    _, text = run("status", "-o", "wide")
    assert "97 %, 3 %, –" in text
    assert "128.0, 8.0, – of 140.0, 140.0, –" in text
    assert "GPU 0 of e1 is held back: thermal, by the hardware" in text


def test_an_engine_in_a_pod_is_scraped_with_its_pod_so_that_an_exporter_can_be_joined() -> None:
    [engine] = OneEngine().list()
    here = engine.evolve(url="http://10.0.0.7:8000")
    found = [_targets(each) for each in (here, here.evolve(pod="chat-0"))]
    assert [None if each is None else each.labels.get("pod") for each in found] == [None, "chat-0"]


def test_a_prometheus_asks_each_engine_where_its_kind_has_its_page() -> None:
    [engine] = OneEngine().list()
    here = engine.evolve(url="https://10.0.0.7:8000")
    other = here.evolve(spec=here.spec.evolve(kind=EngineKind.TENSORRT_LLM))
    found = [_targets(each) for each in (here, other)]
    assert [each and each.labels["__metrics_path__"] for each in found] == ["/metrics", "/prometheus/metrics"]
    assert [each and each.labels["__scheme__"] for each in found] == ["https", "https"]
