"""What is wrong is told without a Prometheus: once it lasts, once only, and never for want of a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.engines.engine_metrics import EngineNumbers
from controlplane.domain.engines.gpu import EngineGpu, GpuReading, Throttle
from controlplane.domain.event import Event
from controlplane.domain.operations.alerts import AlertAction, AlertOptions
from controlplane.domain.operations.minutes import Minutes, error_promise
from controlplane.domain.operations.space import Space
from controlplane.domain.operations.watching import Facts, Pending, Trouble, ripened, troubles
from controlplane.domain.service import ServiceSpec
from controlplane.services.operations.watch import AlertWatcher
from tests.builders_serving import CHAT, NOW, a_spec
from tests.fakes.metrics_source import FakeMetricsSource
from tests.integration.controller.site import Site

P95 = "P95 TTFT ≤ 500 ms"
FAST, SLOW = "FleetuneErrorBudgetBurnsFast", "FleetuneErrorBudgetBurnsSlowly"


def a_record(at: datetime, *, ttft_ms: float = 100, status: int = 200, number: int = 0) -> GatewayRecord:
    return GatewayRecord(
        id=f"{at.timestamp()}-{number}",
        at=at,
        gateway="gw-1",
        service=CHAT,
        model="llama-8b",
        revision=RevisionId("rev-1"),
        engine_id="e-1",
        path="/v1/chat/completions",
        stream=True,
        status=status,
        error=None if status < 500 else "upstream_5xx",
        ttft_ms=ttft_ms if status < 500 else None,
        tpot_ms=10,
        e2e_ms=ttft_ms,
        output_tokens=5,
    )


def traffic(minutes: float, *, ending: datetime = NOW, slow: float = 0, ttft_ms: float = 100) -> list[GatewayRecord]:
    """Twenty requests a minute, of which a share is beyond the limit, the last one just before `ending`."""
    records = []
    for number in range(int(20 * minutes)):
        late = (number % 100) < 100 * slow
        at = ending - timedelta(seconds=3 * (number + 1))
        records.append(a_record(at, ttft_ms=900 if late else ttft_ms, number=number))
    return records


def counted(*parts: Sequence[GatewayRecord], spec: ServiceSpec | None = None) -> Minutes:
    minutes = Minutes(spec or a_spec())
    for part in parts:
        minutes.add(part)
    return minutes


def names(facts: Facts, now: datetime = NOW) -> set[str]:
    return {each.alert for each in troubles(facts, now)}


def test_a_budget_that_burns_in_both_windows_is_told() -> None:
    facts = Facts(a_spec(), counted(traffic(60, slow=0.9)))
    assert {FAST, SLOW} <= names(facts)
    told = next(each for each in troubles(facts, NOW) if each.alert == FAST)
    assert (told.about, told.severity) == (P95, "page")


def test_misses_that_are_over_are_not_told_any_more() -> None:
    facts = Facts(a_spec(), counted(traffic(50, slow=1, ending=NOW - timedelta(minutes=40)), traffic(40)))
    assert not {FAST, SLOW} & names(facts)


def test_a_few_requests_are_no_fire() -> None:
    assert not names(Facts(a_spec(), counted(traffic(0.4, slow=1))))


def test_traffic_that_keeps_its_promise_is_no_news() -> None:
    assert not names(Facts(a_spec(), counted(traffic(360, slow=0.02))))


def test_failed_requests_break_every_promise_and_refusals_none() -> None:
    minutes = counted([a_record(NOW, status=503), a_record(NOW), a_record(NOW, status=429)])
    assert minutes.kept(P95, 60, NOW) == (2, 1)
    assert minutes.kept(error_promise(a_spec()), 60, NOW) == (2, 1)


def test_a_p99_that_more_than_doubled_within_an_hour_is_told() -> None:
    before = traffic(20, ending=NOW - timedelta(minutes=60), ttft_ms=80)
    assert "FleetuneP99Jumped" in names(Facts(a_spec(), counted(before, traffic(11, ttft_ms=400))))
    assert "FleetuneP99Jumped" not in names(Facts(a_spec(), counted(before, traffic(11, ttft_ms=90))))
    assert "FleetuneP99Jumped" not in names(Facts(a_spec(), counted(traffic(11, ttft_ms=400)))), "nothing an hour ago"


def test_a_queue_is_told_while_it_grows_beyond_what_runs() -> None:
    def queue(waiting: Sequence[float | None], running: float | None = 8) -> set[str]:
        return names(Facts(a_spec(), counted(), waiting=waiting, running=running))

    assert queue([2, 4, 9, 12]) == {"FleetuneQueueGrows"}
    assert not queue([40, 30, 20, 12]), "it shrinks"
    assert not queue([2, 3, 4, 5]), "fewer wait than run"
    assert not queue([2, 4, 9, None]), "what waits now is not known"
    assert not queue([2, 4, 9, 12], running=None)


def test_a_budget_of_money_is_told() -> None:
    spec = a_spec(alerts=AlertOptions(usd_per_day=100))
    assert names(Facts(spec, counted(), usd_per_hour=5)) == {"FleetuneBudgetExceeded"}
    assert not names(Facts(spec, counted(), usd_per_hour=4))


def test_busy_gpus_ask_for_a_replica_with_waiting_requests_only() -> None:
    def told(waiting: Sequence[float | None], percent: float | None) -> set[str]:
        return names(Facts(a_spec(), counted(), waiting=waiting, running=50, gpu_percent=percent))

    assert told([3], 97) == {"FleetuneGpusBusyAndQueued", "FleetuneGpusBusy"}
    assert told([0], 97) == told([None], 97) == told([], 97) == {"FleetuneGpusBusy"}
    assert not told([3], 90) | told([3], None)


def test_preemptions_are_told_and_a_few_or_unknown_ones_are_not() -> None:
    def told(per_s: float | None) -> set[str]:
        return names(Facts(a_spec(), counted(), preemptions_per_s=per_s))

    assert told(0.5) == {"FleetunePreemptions"}
    assert not told(0.1) | told(None)


def test_a_gpu_that_is_held_back_by_heat_is_told_and_one_at_its_power_limit_is_not() -> None:
    hot, limited = (GpuReading("0", throttled=(each,)) for each in (Throttle.SW_THERMAL, Throttle.POWER_CAP))
    found = troubles(Facts(a_spec(), counted(), gpus=(EngineGpu("e1", hot), EngineGpu("e2", limited))), NOW)
    assert [(each.alert, each.about, each.for_s) for each in found] == [("FleetuneGpuThrottled", "e1/0", 300)]


def test_a_trouble_is_told_when_it_lasted_and_once() -> None:
    trouble, kept, told = Trouble("Slow", "", "page", 120, "it is slow"), dict[str, Pending](), []
    for minute in range(6):
        after, ripe = ripened([trouble], kept, NOW + timedelta(minutes=minute))
        kept = dict(after)
        told += [minute for _ in ripe]
    assert told == [2]


def test_a_trouble_with_a_gap_begins_anew() -> None:
    trouble, kept = Trouble("Slow", "", "page", 120, "it is slow"), dict[str, Pending]()
    for minute, found in enumerate(([trouble], [], [trouble], [trouble])):
        after, ripe = ripened(found, kept, NOW + timedelta(minutes=minute))
        kept = dict(after)
        assert not ripe


@dataclass
class Watched:
    """A site and a watcher of its alerts, which looks four times a minute."""

    site: Site = field(default_factory=Site)
    space: Space | None = None

    def __post_init__(self) -> None:
        self.metrics = FakeMetricsSource(self.site.clock, stale_after_s=60)
        self.restart()

    def restart(self) -> None:
        self.watcher = AlertWatcher(
            store=self.site.store,
            fleet=self.site.fleet,
            records=self.site.records,
            metrics=self.metrics,
            router=self.site.router,
            clock=self.site.clock,
            certificates=self.site.router,
            space=lambda: self.space,
        )

    def minutes(self, count: float, *, waiting: float | None = None) -> None:
        for look in range(int(4 * count)):
            if waiting is not None:
                numbers = EngineNumbers(model="llama-8b", at=self.site.clock(), waiting=waiting + look, running=4)
                self.metrics.scrape(numbers)
            self.watcher.run()
            self.site.clock.go_on(15)

    def events(self, action: str) -> list[str]:
        return [event.subject for event in self.site.store.list_events() if event.action == action]


def a_watched(**alerts: object) -> Watched:
    site = Site()
    site.serving(alerts=AlertOptions.model_validate(alerts))
    return Watched(site)


def test_a_growing_queue_leads_to_a_replica_more_once() -> None:
    watched = a_watched(actions={"FleetuneQueueGrows": AlertAction.SCALE_OUT})
    before = watched.site.store.get_service(CHAT).value.stable_replicas
    watched.minutes(4, waiting=20)
    watched.restart()
    watched.minutes(4, waiting=60)
    assert watched.site.store.get_service(CHAT).value.stable_replicas == before + 1
    assert watched.events("alert.fired") == ["alert/FleetuneQueueGrows"]


def test_a_new_controller_knows_the_last_hours() -> None:
    watched = a_watched()
    watched.site.records.add(*traffic(60, slow=0.9, ending=watched.site.clock()))
    watched.minutes(0.5)
    fired = watched.events("alert.fired")
    assert f"alert/{FAST}" in fired
    watched.restart()
    watched.minutes(0.5)
    assert watched.events("alert.fired") == fired


def test_gateways_that_are_gone_for_a_minute_are_told() -> None:
    watched = a_watched()
    watched.site.router.down = {"gw-1"}
    watched.minutes(1)
    assert not watched.events("alert.fired")
    watched.minutes(0.5)
    assert watched.events("alert.fired") == ["alert/FleetuneGatewayDown"]


def a_failure(engine: str, at: datetime, action: str = "engine.failed") -> Event:
    return Event(at=at, actor="controller", action=action, subject=f"engine/{engine}", service=CHAT, reason="died")


def test_three_engines_that_failed_within_half_an_hour_are_told_those_sent_away_are_not() -> None:
    watched = a_watched()
    store, clock = watched.site.store, watched.site.clock
    began = clock()
    store.add_event(a_failure("e1", began - timedelta(minutes=31)))
    for name in ("e2", "e3", "e3"):  # said again by a restarted controller
        store.add_event(a_failure(name, began))
    for name in ("e5", "e6", "e7"):
        store.add_event(a_failure(name, began, action="engine.stopped"))
    watched.minutes(0.5)
    assert not watched.events("alert.fired")
    store.add_event(a_failure("e4", clock()))
    watched.minutes(0.5)
    assert watched.events("alert.fired") == ["alert/FleetuneReplicasFlap"]


def test_where_a_prometheus_looks_nobody_else_does() -> None:
    watched = a_watched(built_in=False)
    watched.site.router.down = {"gw-1"}
    watched.minutes(4, waiting=20)
    assert not watched.events("alert.fired")
