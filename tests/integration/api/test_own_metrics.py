"""The day of gateways' and the control plane's own numbers, as the API tells it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.adapters.metrics_scrape.own import Key, OwnStore
from tests.builders_serving import NOW
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import an_api

PLACE = (("service", "chat"),)
PATH = "/fleet/metrics/own/series"


@pytest.fixture
def kept(tmp_path: Path) -> OwnStore:
    own = OwnStore(tmp_path / "metrics.db")
    for back_s in (120, 60, 0):
        told: dict[Key, float] = {
            ("fleetune_gateway_requests_total", PLACE): 600.0 - 5 * back_s,
            ("fleetune_gpus_free", ()): 3.0,
        }
        own.keep({"gw-1": told}, at=NOW - timedelta(seconds=back_s))
    return own


def test_series_are_listed_by_name_and_what_grows_is_a_rate(kept: OwnStore) -> None:
    api = an_api(FakeStore(), own_metrics=kept)
    assert api.get("/fleet/metrics/own").json() == ["fleetune_gateway_requests_total", "fleetune_gpus_free"]
    [rate] = api.get(PATH, params={"name": "fleetune_gateway_requests_total"}).json()
    assert (rate["source"], rate["labels"]) == ("gw-1", {"service": "chat"})
    assert [value for _, value in rate["points"]] == [5.0, 5.0]
    [free] = api.get(PATH, params={"name": "fleetune_gpus_free"}).json()
    assert [value for _, value in free["points"]] == [3.0, 3.0, 3.0]


def test_what_nobody_told_and_where_nobody_collects_is_said(kept: OwnStore) -> None:
    answer = an_api(FakeStore(), own_metrics=kept).get(PATH, params={"name": "fleetune_no"})
    assert (answer.status_code, "nobody told" in answer.text) == (404, True)
    assert an_api(FakeStore()).get("/fleet/metrics/own").status_code == 404
    assert an_api(FakeStore(), own_metrics=kept).get(PATH, params={"name": "x", "hours": 99}).status_code == 422
