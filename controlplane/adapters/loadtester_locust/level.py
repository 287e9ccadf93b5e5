"""What a level of the port is to our generator."""

from __future__ import annotations

from controlplane.ports.load import LoadProgress, LoadRequest, Watch
from loadtests.loadtest import LoadTest
from loadtests.send.plan import Api, Timeouts
from loadtests.send.runner import Progress
from loadtests.send.runner import Watch as RunnerWatch
from loadtests.send.words import COMMON_WORDS


def load_test_of(request: LoadRequest, *, processes: int, ship: bool = False) -> LoadTest:
    """Return the load test of a level; with `ship` by processes that share no disk with us.

    A request gets `timeout_s` of emulated time in all.
    """
    limit_s = request.timeout_s
    return LoadTest(
        workload=request.workload,
        rate_rps=request.rate_rps,
        url=request.url,
        model=request.model,
        adapters=request.adapters,
        duration_s=request.duration_s,
        warmup_s=request.warmup_s,
        time_lapse=request.time_lapse,
        max_lag_ms=request.max_lag_ms,
        seed=request.seed,
        slos=request.slos,
        api_key=request.api_key,
        api=Api(request.dialect.apis[0].value),
        words=None if request.dialect.token_ids else COMMON_WORDS,
        force_length=request.dialect.ignore_eos,
        timeouts=Timeouts(first_token_s=limit_s, stall_s=limit_s, total_s=limit_s),
        processes=processes,
        ship=ship,
    )


def watched(watch: Watch | None) -> RunnerWatch | None:
    """Return the port's watch as the generator calls it."""
    if watch is None:
        return None

    def look(progress: Progress) -> str | None:
        return watch(LoadProgress(*progress))

    return look
