"""The dashboard's only way to the control plane: its HTTP API, answers read into the shared vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import httpx
from pydantic import AwareDatetime, BaseModel, TypeAdapter, ValidationError

from controlplane.domain.ab_tests.ab_test import AbTest
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.event import Event
from controlplane.domain.models import Outcome, RegisteredModel
from controlplane.domain.operations.autoscale import ScaleDecision
from controlplane.domain.operations.cost import Cost
from controlplane.domain.operations.health import InstallationHealth
from controlplane.domain.operations.live import Live
from controlplane.domain.operations.what_if import WhatIf, WhatIfAnswer
from controlplane.domain.report import LoadTestReport
from controlplane.domain.revision import Revision
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.rollouts.rollout_report import RolloutReport
from controlplane.domain.schedule import Schedule, ScheduledAction
from controlplane.domain.serving import Service
from controlplane.domain.studies.importance import Importance
from controlplane.domain.studies.study import Study, Trial

T = TypeVar("T")


class ApiDown(Exception):
    """The API does not answer at all."""


class ApiProblem(Exception):
    """The API answered with a problem; `str()` is its detail."""

    def __init__(self, detail: str, *, status: int) -> None:
        self.status = status
        super().__init__(detail)


class FleetState(BaseModel):
    engines: tuple[Engine, ...]
    free_gpus: int
    free_gpu_indices: tuple[int, ...] = ()


class StoredReport(BaseModel):
    report_id: str
    at: AwareDatetime
    report: LoadTestReport


class Replay(BaseModel):
    report_id: str
    service: str
    schedule: str
    at: AwareDatetime
    regressed: bool
    report: LoadTestReport


class Scaling(BaseModel):
    """What the autoscaler of a service decided last; `decision` None: it is off, or has not looked yet."""

    decision: ScaleDecision | None = None
    forecast_error: float | None = None


class _Page(BaseModel, Generic[T]):
    items: tuple[T, ...]


class Address(NamedTuple):
    """Where the API is and what opens it."""

    url: str
    key: str | None = None


class ApiClient:
    """Typed questions and actions. Every method raises ApiDown or ApiProblem."""

    def __init__(
        self, address: Address, *, transport: httpx.BaseTransport | None = None, timeout_s: float = 10
    ) -> None:
        headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
        self.url = address.url.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1", headers=headers, transport=transport, timeout=timeout_s, trust_env=False
        )

    def services(self) -> Sequence[Service]:
        return sorted(self._items(Service, "/services"), key=lambda service: service.name)

    def studies(self, service: str | None = None) -> Sequence[Study]:
        return self._items(Study, "/studies", service=service)

    def trials(self, study_id: str) -> Sequence[Trial]:
        return self._items(Trial, f"/studies/{study_id}/trials")

    def importance(self, study_id: str) -> Sequence[Importance]:
        return self._items(Importance, f"/studies/{study_id}/importance")

    def rollouts(self, service: str) -> Sequence[Rollout]:
        return self._items(Rollout, "/rollouts", service=service)

    def rollout_report(self, rollout_id: str) -> RolloutReport:
        return self._read(RolloutReport, "GET", f"/rollouts/{rollout_id}/report")

    def revisions(self, service: str) -> Sequence[Revision]:
        return self._items(Revision, f"/services/{service}/revisions")

    def fleet(self) -> FleetState:
        return self._read(FleetState, "GET", "/fleet")

    def health(self) -> InstallationHealth:
        return self._read(InstallationHealth, "GET", "/status")

    def scaling(self, service: str) -> Scaling:
        return self._read(Scaling, "GET", f"/services/{service}/scaling")

    def cost(self, service: str, *, hours: float) -> Cost:
        return self._read(Cost, "GET", f"/services/{service}/cost", params={"hours": hours})

    def live(self, service: str, *, window_s: float, bucket_s: float) -> Live:
        return self._read(Live, "GET", f"/live/{service}", params={"window_s": window_s, "bucket_s": bucket_s})

    def load_reports(self, service: str | None = None) -> Sequence[StoredReport]:
        return self._items(StoredReport, "/load-reports", service=service)

    def replays(self, service: str) -> Sequence[Replay]:
        return self._items(Replay, "/replays", service=service)

    def schedules(self, service: str) -> Sequence[Schedule]:
        return self._items(Schedule, "/schedules", service=service)

    def events(self, *, service: str | None = None, subject: str | None = None, limit: int = 200) -> Sequence[Event]:
        return self._items(Event, "/events", service=service, subject=subject, limit=limit)

    def predict(self, service: str, question: WhatIf) -> WhatIfAnswer:
        body = {"service": service, **question.model_dump(mode="json")}
        return self._read(WhatIfAnswer, "POST", "/predict", json=body)

    def start_study(self, service: str) -> Study:
        return self._read(Study, "POST", "/studies", json={"service": service})

    def act(self, noun: str, name: str, verb: str, reason: str) -> None:
        """Do `verb` to a study or rollout, e.g. `act("rollouts", "r-1", "pause", "lunch")`."""
        self._send("POST", f"/{noun}/{name}/{verb}", json={"reason": reason})

    def apply_recommendation(self, study_id: str) -> Rollout:
        return self._read(Rollout, "POST", f"/recommendations/{study_id}/apply")

    def roll_back(self, service: str, revision: str | None = None, *, at_once: bool = False) -> Rollout:
        """Start a rollout to an earlier revision; None: to the one that served before."""
        body = {"revision": revision, "at_once": at_once}
        return self._read(Rollout, "POST", f"/services/{service}/roll-back", json=body)

    def models(self) -> Sequence[RegisteredModel]:
        return self._items(RegisteredModel, "/models")

    def lineage(self, model: str) -> Sequence[Outcome]:
        return self._items(Outcome, f"/models/{model}/lineage")

    def ab_tests(self, service: str) -> Sequence[AbTest]:
        return self._items(AbTest, "/ab-tests", service=service)

    def move_alias(self, model: str, alias: str, version: int, *, seen: int | None) -> None:
        body = {"version": str(version), "seen": seen}
        self._send("PUT", f"/models/{model}/aliases/{alias}", json=body)

    def add_schedule(
        self, service: str, name: str, cron: str, action: ScheduledAction, *, replay_rps: float | None = None
    ) -> None:
        schedule: dict[str, object] = {"name": name, "cron": cron, "action": action.value}
        if action is ScheduledAction.REPLAY:
            schedule["replay"] = {"rate_rps": replay_rps}
        self._send("POST", "/schedules", json={"service": service, "schedule": schedule})

    def schedule_act(self, service: str, name: str, verb: str) -> None:
        self._send("POST", f"/schedules/{service}/{name}/{verb}", json={})

    def delete_schedule(self, service: str, name: str) -> None:
        self._send("DELETE", f"/schedules/{service}/{name}")

    def _items(self, kind: type[T], path: str, **params: Any) -> Sequence[T]:
        given = {name: value for name, value in params.items() if value is not None}
        return self._read(_Page[kind], "GET", path, params=given).items  # type: ignore[valid-type]  # a runtime value

    def _read(self, kind: type[T], method: str, path: str, **request: Any) -> T:
        answer = self._send(method, path, **request)
        try:
            return TypeAdapter(kind).validate_json(answer.content)
        except ValidationError as error:
            message = f"the API at {self.url} speaks another version than this dashboard"
            raise ApiProblem(message, status=answer.status_code) from error

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise ApiDown(str(error)) from error
        if response.is_error:
            raise ApiProblem(_detail(response), status=response.status_code)
        return response


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the API answered {response.status_code}"
