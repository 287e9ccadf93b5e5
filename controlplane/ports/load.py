"""What measures an engine: load tests and comparisons of answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.engines.driver import Dialect
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.quality import GreedyAnswer
from controlplane.domain.report import MAX_LAG_MS, LoadTestReport, RequestRecord
from controlplane.domain.slo import LatencySlo
from controlplane.domain.studies.warm_up import Probe
from controlplane.domain.workload import Workload


class LoadRequest(Value):
    """One level to run, in emulated time: requests for warmup_s + duration_s, of which the warm-up does not count.

    Each request gets `timeout_s` from its scheduled instant.
    """

    workload: Workload
    rate_rps: float
    url: str
    model: str
    adapters: Mapping[str, float] = Field(default_factory=dict, description="Share of requests that ask for each.")
    duration_s: float
    warmup_s: float = 0.0
    time_lapse: float = 1.0
    max_lag_ms: float = MAX_LAG_MS  # wall clock
    seed: int = 0
    slos: tuple[LatencySlo, ...] = ()
    api_key: str | None = None
    dialect: Dialect = Dialect()
    timeout_s: float = 120.0


class LoadProgress(NamedTuple):
    """What is known while a level runs. Emulated seconds; records past warm-up, in order of completion."""

    elapsed_s: float
    sent: int
    in_flight: int
    records: Sequence[RequestRecord]
    waiting_s: Sequence[float] = ()  # how long requests in flight have waited for a first token: the longest ones
    begun_s: Sequence[tuple[float, float]] = ()
    """Streams in flight: how long the first token took, how long ago the last one came: the longest silent ones."""


Watch = Callable[[LoadProgress], str | None]
"""Called a few times a second while a level runs; returning a reason ends the level early."""


class LoadResult(NamedTuple):
    report: LoadTestReport
    records_path: Path


class LoadTester(Protocol):
    def run(self, request: LoadRequest, *, out_dir: Path, watch: Watch | None = None) -> LoadResult:
        """Run one level to its end. Raises Unavailable when the generator itself broke (a failed trial, not a score).

        A target that is down yields a report full of errors; a generator that could not keep up an INVALID one.
        """

    def rest(self) -> None:
        """Give back what is held between levels and costs others something: hosts of generators. `run` takes it again.

        Raises nothing: what cannot be given back now is ended by its own clock.
        """


class EngineProber(Protocol):
    """Asks an engine for what nobody measures: fresh engines are warmed up by it."""

    def ask(self, engine: Engine, probe: Probe, *, seed: int, timeout_s: float) -> float:
        """Send a probe's prompts together, other text for each seed and none of a load test's; return how long all
        answers took, wall-clock seconds.

        Raises InvalidInput when the engine refuses such prompts, Unavailable when it does not answer in `timeout_s`.
        """


class GeneratorHosts(Protocol):
    """Other hosts, on which generator processes send a level's requests and send home what they saw."""

    def hold(self, processes: int, *, port: int, check: Callable[[], None]) -> None:
        """Let so many processes run, in place of those held before, that connect to a port of this process.

        Returns once all run. `check` is called while they come up, and what it raises ends the wait. Raises Unavailable
        with the reason when they do not come up.
        """

    def release(self) -> None:
        """End all of them; none is fine. See `LoadTester.rest`."""


class QualityProbe(Protocol):
    """Lets an engine answer, to see whether a lossy configuration still answers like the baseline."""

    def answers(self, url: str, model: str, prompts: Sequence[str], *, api_key: str | None) -> tuple[GreedyAnswer, ...]:
        """Return one greedy answer per prompt, in order. Raises Unavailable when the engine does not answer."""

    def score(self, command: Sequence[str], url: str, model: str) -> float:
        """Run a user's scoring command. Raises Unavailable when it fails, InvalidInput when it prints no number."""
