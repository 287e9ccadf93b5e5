"""A load tester without sockets or Locust: the target is a function, time is virtual, the report is the real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.report import RequestRecord
from controlplane.ports.load import LoadProgress, LoadRequest, LoadResult, Watch
from loadtests.measure.records import read_records
from loadtests.report.report import Measured, build_report
from loadtests.send.plan import parse_target
from loadtests.send.schedule import Schedule, build_schedule

_LOOK_EVERY_S = 1.0


class Answer(NamedTuple):
    """What the target does with one request."""

    ttft_ms: float = 0.0
    tpot_ms: float = 0.0
    error: str | None = None


Target = Callable[[RequestRecord, float], Answer]
"""Takes the request as scheduled and the offered rate. Emulated milliseconds."""


def steady(ttft_ms: float, tpot_ms: float) -> Target:
    """A target that always takes the same time."""
    return lambda request, rate_rps: Answer(ttft_ms, tpot_ms)


def down(request: RequestRecord, rate_rps: float) -> Answer:
    """A target that nobody listens at."""
    return Answer(error="connect")


class FakeLoadTester:
    """Implements `ports.LoadTester`. `broken` makes every run raise, as a generator that died does."""

    def __init__(self, target: Target, *, broken: Exception | None = None) -> None:
        self.target = target
        self.broken = broken
        self.requests: list[LoadRequest] = []
        self.rests = 0

    def rest(self) -> None:
        self.rests += 1

    def run(self, request: LoadRequest, *, out_dir: Path, watch: Watch | None = None) -> LoadResult:
        self.requests.append(request)
        parse_target(request.url)
        if self.broken is not None:
            raise self.broken
        total_s = request.warmup_s + request.duration_s
        schedule = build_schedule(request.workload, rate_rps=request.rate_rps, duration_s=total_s, seed=request.seed)
        records = [self._answered(schedule, index, request) for index in range(len(schedule))]
        ended_s, stopped = _watched(records, request, total_s, watch)
        kept = [record for record in records if stopped is None or _end_s(record) <= ended_s]
        out_dir.mkdir(parents=True, exist_ok=True)
        path = out_dir / "records.jsonl"
        path.write_text("".join(record.model_dump_json() + "\n" for record in kept))
        sent = sum(record.scheduled_s < ended_s for record in records)
        run = Measured(
            target=request.url,
            rate_rps=request.rate_rps,
            duration_s=request.duration_s if stopped is None else max(0.0, ended_s - request.warmup_s),
            warmup_s=request.warmup_s,
            time_lapse=request.time_lapse,
            seed=request.seed,
            slos=request.slos,
            stopped_early=stopped,
            unfinished=sent - len(kept) if stopped else 0,
        )
        table = read_records([path])
        return LoadResult(build_report(run, table, table.max_itl_ms[table.ok]), path)

    def _answered(self, schedule: Schedule, index: int, request: LoadRequest) -> RequestRecord:
        tokens = int(schedule.output_tokens[index])
        scheduled = RequestRecord(
            index=index,
            scheduled_s=float(schedule.scheduled_s[index]),
            lag_ms=0.0,
            prompt_tokens=int(schedule.prompt_tokens[index]),
            output_tokens=0,
            wanted_tokens=tokens,
        )
        ttft_ms, tpot_ms, error = self.target(scheduled, request.rate_rps)
        if error is not None:
            return scheduled.evolve(error=error)
        return scheduled.evolve(
            output_tokens=tokens,
            ttft_ms=ttft_ms,
            tpot_ms=tpot_ms if tokens > 1 else None,
            e2e_ms=ttft_ms + tpot_ms * (tokens - 1),
            max_itl_ms=tpot_ms if tokens > 1 else None,
            status=200,
        )


def _end_s(record: RequestRecord) -> float:
    return record.scheduled_s + (record.e2e_ms or 0.0) / 1e3


def _watched(
    records: list[RequestRecord], request: LoadRequest, total_s: float, watch: Watch | None
) -> tuple[float, str | None]:
    """Let virtual time pass; return when the run ended and why it ended early, if it did."""
    end_s = max([total_s, *map(_end_s, records)])
    now_s = 0.0
    measured = sorted((each for each in records if each.scheduled_s >= request.warmup_s), key=_end_s)
    while watch is not None and now_s < end_s:
        now_s += _LOOK_EVERY_S
        done = [record for record in measured if _end_s(record) <= now_s]
        sent = sum(record.scheduled_s <= now_s for record in records)
        finished = sum(_end_s(record) <= now_s for record in records)
        reason = watch(LoadProgress(now_s, sent, sent - finished, done))
        if reason is not None:
            return now_s, reason
    return end_s, None
