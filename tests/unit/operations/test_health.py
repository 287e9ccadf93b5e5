"""Is everything all right? The worst reason decides, and every reason is said."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.engines.gpu import EngineGpu, GpuReading, Throttle
from controlplane.domain.operations.autoscale import ScaleDecision
from controlplane.domain.operations.health import Replicas, ServiceHealth, Standing, service_health
from controlplane.domain.operations.live import live
from controlplane.domain.operations.share_options import ShareOptions
from controlplane.domain.operations.space import Space
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.services.operations.health import installation_health
from tests.builders_serving import CHAT, NOW, a_rollout, a_service, a_spec
from tests.integration.controller.site import Site


def judged(**changes: Any) -> ServiceHealth:
    """A service that is all right, but for `changes`."""
    service = a_service(stable="rev-stable", stable_replicas=2)
    given: dict[str, Any] = {
        "live": live(a_spec(), (), now=NOW, window_s=300, bucket_s=300),
        "rollout": None,
        "scaling": None,
        "alerts": {},
    }
    replicas = {"ready": 2, "wanted": 2, "hanging": 0}
    found = Replicas(**{name: changes.pop(name, value) for name, value in replicas.items()})
    return service_health(service, replicas=found, **(given | changes))


HELD = ScaleDecision(at=NOW, replicas=2, held=True, reason="no gateway answers")


HOT = EngineGpu("e1", GpuReading("3", throttled=(Throttle.POWER_CAP, Throttle.HW_THERMAL)))
AT_ITS_LIMIT = EngineGpu("e1", GpuReading("3", utilisation_percent=100, throttled=(Throttle.POWER_CAP,)))


def test_a_service_with_nothing_to_say_of_it_is_right() -> None:
    assert judged(gpus=(AT_ITS_LIMIT, EngineGpu("e2", GpuReading("4")))).standing is Standing.RIGHT
    assert (judged().standing, judged().findings) == (Standing.RIGHT, ())
    assert judged(rollout=a_rollout(state=RolloutState.PROGRESSING)).standing is Standing.RIGHT


@pytest.mark.parametrize(
    ("changes", "standing", "says"),
    [
        ({"ready": 0}, Standing.WRONG, "none of 2"),
        ({"ready": 1}, Standing.WATCH, "1 of 2"),
        ({"hanging": 1}, Standing.WATCH, "hang"),
        ({"live": None}, Standing.WATCH, "cannot be read"),
        ({"rollout": a_rollout(state=RolloutState.HALTED)}, Standing.WRONG, "person must act"),
        ({"rollout": a_rollout(state=RolloutState.PAUSED)}, Standing.WATCH, "paused"),
        ({"scaling": HELD}, Standing.WATCH, "no gateway answers"),
        ({"alerts": {"FleetuneQueueGrows": NOW}}, Standing.WATCH, "FleetuneQueueGrows"),
        ({"gpus": (HOT,)}, Standing.WATCH, "GPU 3 of e1 is held back: thermal, by the hardware"),
    ],
)
def test_each_reason_is_said(changes: dict[str, Any], standing: Standing, says: str) -> None:
    found = judged(**changes)
    assert found.standing is standing
    assert says in found.findings[0].text


def test_the_worst_reason_comes_first_and_decides() -> None:
    found = judged(ready=1, rollout=a_rollout(state=RolloutState.HALTED), alerts={"A": NOW})
    assert found.standing is Standing.WRONG
    assert "halted" in found.findings[0].text
    assert len(found.findings) == 3


def test_a_broken_promise_of_live_traffic_is_wrong_and_a_stopped_service_is_right() -> None:
    site = Site()
    site.serving()
    site.passes(5, requests=20)
    assert installation_health(site.store, site.fleet, site.records, now=site.clock()).standing is Standing.RIGHT
    assert site.service.stable is not None
    site.slow.add(site.service.stable)
    site.passes(5, requests=20)
    found = installation_health(site.store, site.fleet, site.records, now=site.clock())
    assert found.standing is Standing.WRONG
    assert "P95 TTFT ≤ 500 ms is missed by" in found.services[0].findings[0].text
    site.records.broken = True
    assert installation_health(site.store, site.fleet, site.records, now=site.clock()).standing is Standing.WATCH
    site.records.broken = False
    service, version = site.store.get_service(CHAT)
    site.store.save_service(service.evolve(stopped=True), version)
    site.clock.go_on(2000)
    found = installation_health(site.store, site.fleet, site.records, now=site.clock())
    assert (found.standing, found.services[0].wanted) == (Standing.RIGHT, 0)


@pytest.mark.parametrize(("ago_s", "standing"), [(None, "right"), (60.0, "right"), (61.0, "wrong")])
def test_a_controller_that_finishes_no_pass_is_wrong_whatever_serves(ago_s: float | None, standing: str) -> None:
    site = Site()
    site.serving()
    site.passes(5, requests=20)
    found = installation_health(site.store, site.fleet, site.records, now=site.clock(), passed_s_ago=ago_s)
    assert found.standing == standing
    assert [each.text.partition(":")[0] for each in found.findings] == (
        ["the controller finished no pass for 61 s"] if standing == "wrong" else []
    )


@pytest.mark.parametrize(
    ("free_mib", "says"), [(None, []), (65, []), (0, ["0 MiB are free where the data folder lies"])]
)
def test_a_disk_without_room_is_wrong_at_once(free_mib: int | None, says: list[str]) -> None:
    site = Site()
    site.serving()
    space = None if free_mib is None else Space(free=free_mib * 2**20, size=2**40)
    found = installation_health(site.store, site.fleet, site.records, now=site.clock(), space=space)
    assert [each.text.partition(":")[0] for each in found.findings] == says
    assert not says or found.standing is Standing.WRONG


def test_one_that_sleeps_until_its_turn_is_right_and_one_without_an_engine_is_not() -> None:
    flags, env = {"enable-sleep-mode": True}, {"VLLM_SERVER_DEV_MODE": "1"}
    engine = a_spec().engine.evolve(flags=flags, env=env)
    service = a_service(spec=a_spec(engine=engine, shares=ShareOptions(pool="small")), stable="rev-1")
    for asleep, standing in ((1, Standing.RIGHT), (0, Standing.WRONG)):
        replicas = Replicas(ready=0, wanted=1, asleep=asleep)
        found = service_health(service, replicas=replicas, live=None, rollout=None, scaling=None, alerts={})
        (said,) = [each for each in found.findings if "live records" not in each.text]
        assert said.standing is standing
