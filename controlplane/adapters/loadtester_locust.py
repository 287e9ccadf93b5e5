"""LoadTester on Locust: one child process kept across levels, so that a level costs no Locust start."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from controlplane.ports.load import LoadProgress, LoadRequest, LoadResult, Watch
from loadtests.loadtest import LoadTest, run_load_test
from loadtests.send.plan import Api, Timeouts
from loadtests.send.runner import Generator, Progress
from loadtests.send.runner import Watch as RunnerWatch
from loadtests.send.words import COMMON_WORDS


class LocustLoadTester:
    """Use as a context manager, or call `close`: the child runs between levels. Not for two threads at once."""

    def __init__(self, *, processes: int = 1) -> None:
        self._processes = processes
        self._generator = Generator(processes=processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Start Locust ahead of the first level, e.g. while the engine starts. Returns at once."""
        self._generator.start()

    def run(self, request: LoadRequest, *, out_dir: Path, watch: Watch | None = None) -> LoadResult:
        """See `ports.LoadTester.run`. A request gets `timeout_s` of emulated time in all."""
        result = run_load_test(
            _test(request, self._processes),
            self._generator,
            out_dir=out_dir,
            watch=None if watch is None else _adapted(watch),
        )
        return LoadResult(result.report, result.records_path)

    def close(self) -> None:
        self._generator.close()


def _adapted(watch: Watch) -> RunnerWatch:
    def look(progress: Progress) -> str | None:
        return watch(LoadProgress(*progress))

    return look


def _test(request: LoadRequest, processes: int) -> LoadTest:
    limit_s = request.timeout_s
    return LoadTest(
        workload=request.workload,
        rate_rps=request.rate_rps,
        url=request.url,
        model=request.model,
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
    )
