"""Locust as a child process, kept across levels, so that a level costs no Locust start."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from controlplane.adapters.loadtester_locust.level import load_test_of, watched
from controlplane.ports.load import LoadRequest, LoadResult, Watch
from loadtests.loadtest import run_load_test
from loadtests.send.runner import Generator


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
        """See `ports.LoadTester.run`."""
        test = load_test_of(request, processes=self._processes)
        result = run_load_test(test, self._generator, out_dir=out_dir, watch=watched(watch))
        return LoadResult(result.report, result.records_path)

    def rest(self) -> None:
        """Nothing is given back: the child sleeps until the next level."""

    def close(self) -> None:
        self._generator.close()
