"""One load test from its description to its report: schedule, generator, records, figures."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from controlplane.domain.errors import InvalidInput
from controlplane.domain.report import MAX_LAG_MS, LoadTestReport
from controlplane.domain.slo import LatencySlo
from controlplane.domain.workload import Workload
from controlplane.host.files import write_whole
from loadtests.measure.host import Host, HostWatch
from loadtests.measure.records import read_gaps_ms, read_records
from loadtests.report.report import Measured, build_report
from loadtests.send.arrivals import RateShape
from loadtests.send.client.connection import trust
from loadtests.send.plan import Api, Plan, Timeouts, parse_target
from loadtests.send.runner import Finished, Generator, Watch
from loadtests.send.schedule import Schedule, build_schedule
from loadtests.send.words import COMMON_WORDS


@dataclass(frozen=True)
class LoadTest:
    """What to run. The schedule lasts warmup_s + duration_s; only requests scheduled after the warm-up are measured."""

    workload: Workload | None  # None: the schedule is given
    rate_rps: float
    url: str
    model: str
    duration_s: float
    warmup_s: float = 0.0
    time_lapse: float = 1.0
    max_lag_ms: float = MAX_LAG_MS  # wall clock; more makes a run valid whose figures are the host's
    seed: int = 0
    slos: tuple[LatencySlo, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    api: Api = Api.COMPLETIONS
    timeouts: Timeouts = field(default_factory=Timeouts)
    shape: RateShape | None = None
    words: tuple[str, ...] | None = None
    prompt_overhead: int = 0
    force_length: bool = True
    adapters: Mapping[str, float] = field(default_factory=dict)  # model name → share of the requests
    extra_body: dict[str, JsonValue] = field(default_factory=dict)
    concurrency: int | None = None
    processes: int = 1
    cores: tuple[int, ...] = ()  # one per process; empty: wherever the kernel puts them
    drain_on_stop: bool = False
    salt: int | None = None  # None: a new one, so that no run finds another's prompts in a prefix cache
    ca_file: str | None = None
    ship: bool = False  # workers on other hosts: schedule and records travel through Locust's master


class LoadTestResult(NamedTuple):
    report: LoadTestReport
    records_path: Path


def run_load_test(
    test: LoadTest, generator: Generator, *, out_dir: Path, watch: Watch | None = None, schedule: Schedule | None = None
) -> LoadTestResult:
    """Run it. `out_dir` gets records.jsonl, gaps, status and the schedule.

    `schedule` replaces the one that the workload would give. Raises InvalidInput for a description that cannot be run
    and Unavailable when the generator broke; a target that is down gives a report full of errors.
    """
    trust(parse_target(test.url), test.ca_file)
    total_s = test.warmup_s + test.duration_s
    if schedule is None:
        if test.workload is None:
            raise InvalidInput("a load test needs a workload or a schedule")
        schedule = build_schedule(
            test.workload, rate_rps=test.rate_rps, duration_s=total_s, seed=test.seed, shape=test.shape
        )
    _clear(out_dir)
    plan = _plan(test, schedule, out_dir)
    limit_s = (total_s + test.timeouts.total_s) / test.time_lapse
    with HostWatch() as host:
        finished = generator.run(plan, warmup_s=test.warmup_s, limit_s=limit_s, watch=watch)
    return _result(test, plan, schedule, finished, host.seen())


def write_plan(test: LoadTest, schedule: Schedule, out_dir: Path) -> Path:
    """Write what `locust -f loadtests/locustfile.py --fleetune-plan FILE` runs, and return that file.

    Only its owner can read it: it holds the API key. Raises InvalidInput for a target that cannot be used.
    """
    trust(parse_target(test.url), test.ca_file)
    _clear(out_dir)
    path = out_dir.resolve() / "plan.json"
    write_whole(path, _plan(test, schedule, out_dir).model_dump_json(indent=1), private=True)
    return path


def _clear(out_dir: Path) -> None:
    """A folder used before must not leave its results among the new ones."""
    out_dir.mkdir(parents=True, exist_ok=True)
    for pattern in ("records*.jsonl", "gaps-*.u32", "status-*.jsonl", "summary-*.json"):
        for path in out_dir.glob(pattern):
            path.unlink()


def _plan(test: LoadTest, schedule: Schedule, out_dir: Path) -> Plan:
    schedule_path = out_dir / "schedule.npz"
    schedule.save(schedule_path)
    needs_text = test.words is None and test.api is Api.CHAT
    return Plan(
        url=test.url,
        model=test.model,
        out_dir=str(out_dir.resolve()),
        schedule_path=str(schedule_path.resolve()),
        api=test.api,
        words=COMMON_WORDS if needs_text else test.words,
        prompt_overhead=test.prompt_overhead,
        salt=secrets.randbits(48) if test.salt is None else test.salt,
        force_length=test.force_length,
        adapters=dict(test.adapters),
        adapter_seed=test.seed,
        extra_body=test.extra_body,
        timeouts=test.timeouts,
        time_lapse=test.time_lapse,
        concurrency=test.concurrency,
        drain_on_stop=test.drain_on_stop,
        api_key=test.api_key,
        workers=test.processes,
        cores=test.cores,
        ca_file=test.ca_file,
        ship=test.ship,
    )


def _result(test: LoadTest, plan: Plan, schedule: Schedule, finished: Finished, host: Host) -> LoadTestResult:
    parts = _written(plan, "records-{}.jsonl")
    records = read_records(parts)
    first = int((schedule.scheduled_s < test.warmup_s).sum())
    gaps = read_gaps_ms(_written(plan, "gaps-{}.u32"), time_lapse=test.time_lapse, first_index=first)
    report = build_report(_measured(test, plan, finished, host), records, gaps)
    return LoadTestResult(report, _merged(parts, Path(plan.out_dir) / "records.jsonl"))


def _written(plan: Plan, name: str) -> list[Path]:
    """Return the files of that name of every worker that began; one that was lost before has none."""
    paths = (Path(plan.out_dir) / name.format(worker) for worker in range(plan.workers))
    return [path for path in paths if path.exists()]


def _measured(test: LoadTest, plan: Plan, finished: Finished, host: Host) -> Measured:
    summaries = finished.summaries
    broken = next((each["broken"] for each in summaries if "broken" in each), None)
    whole = [each for each in summaries if "broken" not in each]
    elsewhere = [Host(**each["host"]) for each in whole if "host" in each]
    ran_s = max((each["wall_s"] for each in whole), default=0.0) * test.time_lapse - test.warmup_s
    return Measured(
        target=test.url,
        rate_rps=test.rate_rps,
        duration_s=min(test.duration_s, max(0.0, ran_s)) if finished.stopped else test.duration_s,
        warmup_s=test.warmup_s,
        time_lapse=test.time_lapse,
        max_lag_ms=test.max_lag_ms,
        host=max(elsewhere, default=host, key=lambda each: each.timer_late_ms),
        seed=test.seed,
        slos=test.slos,
        stopped_early=finished.stopped,
        cpu_percent=max((each["cpu_percent"] for each in whole), default=None),
        unfinished=sum(each["unfinished"] for each in whole),
        not_sent=sum(each["not_sent"] for each in whole),
        coalesced=sum(each["coalesced"] for each in whole),
        lost=f"a generator process broke: {broken}" if broken else None,
        prompt_salt=plan.salt,
    )


def _merged(parts: list[Path], whole: Path) -> Path:
    """One file of all records; the parts of a single worker are simply renamed."""
    if len(parts) == 1:
        return parts[0].rename(whole)
    with whole.open("wb") as merged:
        for part in parts:
            merged.write(part.read_bytes())
            part.unlink()
    return whole
