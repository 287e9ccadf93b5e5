"""What the use cases need from the world. Every method is idempotent: a crash between a save and an act is repaired by
repeating it on the next pass. One contract suite per port (`tests/contract`) runs on the fake and the real adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from controlplane.domain.base import EngineId, RevisionId, RolloutId, ServiceName, StudyId, TrialId, Value
from controlplane.domain.engine_metrics import EngineNumber, EngineNumbers, NumberAt
from controlplane.domain.engines.driver import Dialect
from controlplane.domain.event import Event
from controlplane.domain.fleet import Engine, EngineSpec
from controlplane.domain.greedy_answer import GreedyAnswer
from controlplane.domain.identity import Credential
from controlplane.domain.models import RegisteredModel
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.report import MAX_LAG_MS, LoadTestReport, RequestRecord
from controlplane.domain.revision import Revision
from controlplane.domain.rollout import Rollout
from controlplane.domain.routing import GatewayRecord, InFlight, RoutingTable, ServiceRoute
from controlplane.domain.schedule import Schedule
from controlplane.domain.serving import Service
from controlplane.domain.slo import LatencySlo
from controlplane.domain.study import Study, Trial
from controlplane.domain.workload import Workload

T = TypeVar("T")

Clock = Callable[[], datetime]
"""Returns the present moment, aware, UTC."""


class Versioned(NamedTuple, Generic[T]):
    """A stored value with the version to give back when saving it."""

    value: T
    version: int


class FleetView(Protocol):
    """The part of a Fleet that only looks."""

    def list(self) -> Sequence[Engine]:
        """Look at every engine not yet forgotten, those adopted from a crashed process included."""

    def free_gpus(self) -> int:
        """GPUs no engine holds."""


class Fleet(FleetView, Protocol):
    """Engines on some hardware. Several processes may hold a Fleet on the same hardware at once."""

    def start(self, spec: EngineSpec) -> Engine:
        """Start an engine, or return the one that already has this id (whatever its state).

        Returns at once, state STARTING. Raises Unavailable when no GPUs are free, InvalidInput when the spec can never
        run here.
        """

    def observe(self, engine_id: EngineId) -> Engine:
        """Look at one engine now: a STARTING engine that answers becomes READY; an exited one FAILED with its class.

        Raises NotFound for an id never started or already forgotten.
        """

    def in_flight(self, engine_id: EngineId) -> int | None:
        """Requests running or waiting in the engine by its own metrics; None when it does not say."""

    def stop(self, engine_id: EngineId, *, drain_s: float) -> Engine:
        """Ask an engine to stop: DRAINING until nothing is in flight or `drain_s` is over, then STOPPED.

        Returns at once; call again (or `observe`) to move it on. 0 kills at once. A failed or stopped engine stays so.
        """

    def forget(self, engine_id: EngineId) -> None:
        """Remove the memory of an engine that is STOPPED or FAILED (its log stays). Unknown ids are ignored."""


class TrafficRouter(Protocol):
    """Splits live traffic. Gateways keep the last table they were given."""

    def apply(self, table: RoutingTable) -> None:
        """Give the table to every gateway. Raises Unavailable when one did not take it (the others still have it)."""

    def actual(self) -> Sequence[RoutingTable | None]:
        """Return the table each running gateway now uses, None for one that does not answer.

        Raises Unavailable when none answers.
        """


class FlightView(Protocol):
    """What the gateways are serving at this moment."""

    def flights(self) -> Sequence[InFlight]:
        """Return requests in flight at every gateway that answers, one part per gateway and revision.

        Raises Unavailable when no gateway answers.
        """


class GatewayNews(Protocol):
    """What the gateways know that the store does not: uses of keys, and what people are to be told."""

    def key_uses(self) -> Mapping[str, datetime]:
        """Return the last request of each key, by its name, at the gateways that answer, since they started."""

    def troubles(self) -> Mapping[str, Sequence[str]]:
        """Return what is wrong beyond a request, a sentence each, by the name of each gateway that answers."""


class GatewayOpener(Protocol):
    def open(self, route: ServiceRoute, *, folder: Path) -> AbstractContextManager[str]:
        """Run a gateway of one's own with this one route while inside; gives its URL, for this host only.

        Its files go to `folder`. Raises Unavailable when it does not come up. It ends with the process that opened it.
        """


Position = Mapping[str, int]
"""How far a reader of records has come; only the source that gave it understands it. Empty: nothing read yet."""


class News(NamedTuple):
    """Records not given before, in an order that is the same for everybody, and where to go on."""

    records: Sequence[GatewayRecord]
    position: Position


class RecordFeed(Protocol):
    """Live request records as they come."""

    def follow(self, service: ServiceName, *, since: datetime, position: Position) -> News:
        """Return what was finished since `position` of requests that arrived at or after `since`, replayed ones too.

        Costs what is new. Records of one gateway come in the order in which its requests finished. Raises Unavailable.
        """


class RecordSource(Protocol):
    """Live request records of the gateways."""

    def read(
        self, service: ServiceName, *, since: datetime, revision: RevisionId | None = None
    ) -> Sequence[GatewayRecord]:
        """Return finished requests of users that *arrived* at or after `since`, oldest first. Raises Unavailable."""


class LoadRequest(Value):
    """One level to run, in emulated time: requests for warmup_s + duration_s, of which the warm-up does not count.

    Each request gets `timeout_s` from its scheduled instant.
    """

    workload: Workload
    rate_rps: float
    url: str
    model: str
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


class LoadResult(NamedTuple):
    report: LoadTestReport
    records_path: Path


Watch = Callable[[LoadProgress], str | None]
"""Called a few times a second while a level runs; returning a reason ends the level early."""


class LoadTester(Protocol):
    def run(self, request: LoadRequest, *, out_dir: Path, watch: Watch | None = None) -> LoadResult:
        """Run one level to its end. Raises Unavailable when the generator itself broke (a failed trial, not a score).

        A target that is down yields a report full of errors; a generator that could not keep up an INVALID one.
        """


class QualityProbe(Protocol):
    """Lets an engine answer, to see whether a lossy configuration still answers like the baseline."""

    def answers(self, url: str, model: str, prompts: Sequence[str], *, api_key: str | None) -> tuple[GreedyAnswer, ...]:
        """Return one greedy answer per prompt, in order. Raises Unavailable when the engine does not answer."""

    def score(self, command: Sequence[str], url: str, model: str) -> float:
        """Run a user's scoring command. Raises Unavailable when it fails, InvalidInput when it prints no number."""


class StudyClaim(NamedTuple):
    """One tuner worker that works on a study, and when it last said so."""

    worker: str
    heartbeat_at: datetime


class MetricsSource(Protocol):
    """What engines say of themselves, from wherever it is collected. Stale or missing is None, never zero."""

    def read(self, model: str) -> EngineNumbers:
        """Return the newest numbers of all engines of a served model name. Raises Unavailable."""

    def series(
        self, model: str, number: EngineNumber, *, since: datetime, until: datetime, step_s: float
    ) -> Sequence[NumberAt]:
        """Return one number at `since`, and every `step_s` (whole seconds) until `until`. Raises Unavailable."""


class StoredReplay(NamedTuple):
    report_id: str
    at: datetime
    point: ReplayPoint
    report: LoadTestReport


class Store(Protocol):
    """Everything that must survive a crash. Writes are guarded: `save_*` with the version read, 0 for a new one.

    `save_*` returns the new version and raises StaleVersion when somebody else saved in between. `events` given to a
    save are kept in the same transaction: both or neither. `get_*` raises NotFound. Lists are newest first unless they
    say otherwise. Every method raises Unavailable when the store cannot be reached, written or read.
    """

    def get_service(self, name: ServiceName) -> Versioned[Service]: ...
    def list_services(self) -> Sequence[Versioned[Service]]: ...
    def save_service(self, service: Service, version: int, *, events: Sequence[Event] = ()) -> int:
        """Raises Conflict when another service has this model name."""

    def get_study(self, study_id: StudyId) -> Versioned[Study]: ...
    def list_studies(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[Versioned[Study]]: ...
    def save_study(self, study: Study, version: int, *, events: Sequence[Event] = ()) -> int: ...
    def studies_to_apply(self) -> Sequence[Versioned[Study]]:
        """DONE studies with `apply_when_done` whose improvement was not applied yet, oldest first."""

    def claim_study(self, worker: str, *, now: datetime, lease_s: float) -> Versioned[Study] | None:
        """Take the oldest PENDING study, or a RUNNING one that no worker holds whose heartbeat is younger than
        `lease_s`; None if none.

        The study comes back RUNNING, with `started_at` set the first time. No two workers get the same PENDING one.
        """

    def join_study(self, study_id: StudyId, worker: str, *, now: datetime, lease_s: float) -> Versioned[Study] | None:
        """Work on this study beside whoever holds it; None when it is neither PENDING nor RUNNING.

        Claims older than `lease_s` are dropped on the way: those workers are lost.
        """

    def heartbeat(self, study_id: StudyId, worker: str, *, now: datetime) -> bool:
        """Renew a claim. False when it was dropped: stop working on the study."""

    def release_study(self, study_id: StudyId, worker: str) -> None: ...
    def study_claims(self, study_id: StudyId) -> Sequence[StudyClaim]:
        """Who holds the study, by name, the lost not yet dropped included; empty when nobody does or it is unknown."""

    def get_trial(self, trial_id: TrialId) -> Versioned[Trial]: ...
    def list_trials(self, study_id: StudyId) -> Sequence[Versioned[Trial]]:
        """Oldest first."""

    def save_trial(self, trial: Trial, version: int) -> int: ...

    def get_revision(self, revision_id: RevisionId) -> Revision: ...
    def list_revisions(self, service: ServiceName) -> Sequence[Revision]: ...
    def add_revision(self, revision: Revision) -> None:
        """Keep a revision; the same one again is fine (immutable, named by content)."""

    def get_rollout(self, rollout_id: RolloutId) -> Versioned[Rollout]: ...
    def list_rollouts(
        self, service: ServiceName | None = None, *, limit: int = 100
    ) -> Sequence[Versioned[Rollout]]: ...
    def save_rollout(self, rollout: Rollout, version: int, *, events: Sequence[Event] = ()) -> int:
        """Raises Conflict when the service already has another rollout that is not final."""

    def list_schedules(self, service: ServiceName | None = None) -> Sequence[Versioned[Schedule]]: ...
    def save_schedule(self, schedule: Schedule, version: int, *, events: Sequence[Event] = ()) -> int: ...
    def delete_schedule(self, service: ServiceName, name: str) -> None: ...

    def list_credentials(self) -> Sequence[Versioned[Credential]]:
        """API keys, oldest first, the revoked among them."""

    def save_credential(self, credential: Credential, version: int, *, events: Sequence[Event] = ()) -> int: ...

    def get_model(self, name: str) -> Versioned[RegisteredModel]: ...
    def list_models(self) -> Sequence[Versioned[RegisteredModel]]: ...
    def save_model(self, model: RegisteredModel, version: int, *, events: Sequence[Event] = ()) -> int: ...

    def add_event(self, event: Event) -> None: ...
    def list_events(
        self, *, service: str | None = None, subject: str | None = None, limit: int = 200
    ) -> Sequence[Event]: ...

    def add_load_report(
        self,
        report_id: str,
        service: ServiceName | None,
        report: LoadTestReport,
        at: datetime,
        *,
        replay: ReplayPoint | None = None,
    ) -> None:
        """Keep a report; with `replay` it is a point of a schedule's series. Raises Conflict when the id is taken."""

    def get_load_report(self, report_id: str) -> LoadTestReport: ...
    def list_load_reports(
        self, service: ServiceName | None = None, *, limit: int = 100
    ) -> Sequence[tuple[str, datetime, LoadTestReport]]: ...

    def list_replays(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[StoredReplay]: ...

    def next_number(self, name: str) -> int:
        """Return 1, 2, 3, ... per name, never the same twice (versions of the routing table, ids)."""

    def read_setting(self, name: str) -> Versioned[str] | None: ...
    def write_setting(self, name: str, value: str, version: int) -> int:
        """Guarded as `save_*` is."""
