"""`service.yaml`: everything a user says about one served model. Its JSON Schema comes from `fleetune schema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from controlplane.domain.base import ServiceName, Value
from controlplane.domain.catalogue import CatalogueLink, OnMove
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.judging import JudgeOptions
from controlplane.domain.engines.driver import EngineDriver
from controlplane.domain.engines.drivers import check_mapping, driver_of, engine_key
from controlplane.domain.engines.engine import ENGINE, EngineConfig, EngineKind, Flags
from controlplane.domain.engines.flags import canonical_flag
from controlplane.domain.errors import InvalidInput
from controlplane.domain.hardware import GpuPool
from controlplane.domain.operations.alerts import AlertOptions
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.operations.drift import DriftOptions
from controlplane.domain.operations.share_options import ShareOptions, check_shared
from controlplane.domain.operations.spot import SpotOptions
from controlplane.domain.report import MAX_LAG_MS
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from controlplane.domain.schedule import ScheduleSpec
from controlplane.domain.slo import SloSet
from controlplane.domain.studies.tuning_options import Knob, TuningOptions
from controlplane.domain.workload import Workload

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]


class ModelSpec(Value):
    """The served model. `path` is what the engine gets; the twin reads its layers from the folder's config.json.

    With a hub name (`meta-llama/Llama-3.1-8B`) there is no config.json to read here: real engines serve it, but the
    twin cannot predict it. The emulator also takes the name of a shape that ships with Fleetune.
    """

    name: str = Field(description="The name clients use in `model`.", examples=["llama-70b"])
    path: str = Field(description="Model folder, hub name, or a shipped shape, as llama-8b or qwen3-14b.")


class EmulatorOptions(Value):
    """Only for engine kind emulator."""

    profile: str | None = Field(default=None, description="Twin profile; None picks by model and GPU.")
    startup_s: float = Field(default=2.0, ge=0, description="Emulated start-up, shortened.")
    first_use_s: float = Field(
        default=0, ge=0, description="Emulated stall at the first step of each size, as if compiled then."
    )
    time_lapse: float = Field(default=1.0, ge=0.1, le=50, description="Emulated seconds per wall-clock second.")
    max_lag_ms: float = Field(
        default=MAX_LAG_MS,
        ge=MAX_LAG_MS,
        le=1000,
        description="Wall clock. More lets figures count that are the host's.",
    )


class EngineOptions(Value):
    kind: EngineKind
    command: tuple[str, ...] | None = Field(
        default=None, description="Command template instead of the kind's own; {model} {host} {port} {args}."
    )
    mapping: EngineDriver | None = Field(
        default=None, description="Only for kind command: how such an engine is driven. In a file: its path."
    )
    version: str | None = Field(
        default=None,
        description="Whose flags are allowed. None: vLLM 0.26; of other engines the one that ships.",
    )
    flag_file: str | None = Field(
        default=None, description="Flags of a version that does not ship, as `fleetune knobs extract` writes them."
    )
    flags: Flags = Field(default_factory=dict, description="Base flags, on every replica, as the engine takes them.")
    env: Mapping[str, str] = Field(default_factory=dict)
    start_timeout_s: float = Field(default=900, gt=0)
    emulator: EmulatorOptions = EmulatorOptions()

    @model_validator(mode="after")
    def _driven(self) -> EngineOptions:
        check_mapping(self.kind, self.mapping)
        return self

    @property
    def driver(self) -> EngineDriver:
        """How these engines are launched, read and spoken to."""
        return driver_of(self.kind, self.mapping)

    @property
    def api_key(self) -> str | None:
        """The key that these engines ask their clients for, None when they ask for none."""
        return engine_key(self.driver, self.flags, self.env)

    @property
    def time_lapse(self) -> float:
        """Emulated seconds per wall-clock second: 1 for real engines."""
        return self.emulator.time_lapse if self.kind is EngineKind.EMULATOR else 1.0

    @property
    def compiles_at_first_use(self) -> bool:
        """Whether these engines may stall at sizes that they meet first: the emulator where it is told to."""
        told = self.kind is EngineKind.EMULATOR and self.emulator.first_use_s > 0
        return told or self.driver.compiles_at_first_use

    @property
    def max_lag_ms(self) -> float:
        """How late a load generator may be for its figures to be believed, ms of wall clock (P99)."""
        return self.emulator.max_lag_ms if self.kind is EngineKind.EMULATOR else MAX_LAG_MS


SLEEP_SWITCH = "VLLM_SERVER_DEV_MODE"
"""The variable with which vLLM has /sleep, /wake_up and /is_sleeping."""


class Alternative(Value):
    """Another way to serve the same model, tried beside `engine`: another engine, another checkpoint, or both."""

    engine: EngineOptions | None = Field(default=None, description="None: the service's own, with another checkpoint.")
    path: str | None = Field(
        default=None, description="The same model elsewhere, e.g. quantized (AWQ, GPTQ, FP8, GGUF). None: model.path."
    )
    space: Mapping[str, Knob] = Field(
        default_factory=dict, description="Flag name → knob. Empty: the default space of that engine."
    )

    @model_validator(mode="after")
    def _differs(self) -> Alternative:
        if self.engine is None and self.path is None:
            raise ValueError("give engine, path or both: it is the service itself otherwise")
        return self


class ServiceSpec(Value):
    """One served model: what it is, what it runs on, what it promises, and how it may be changed."""

    version: Literal[1] = 1
    name: Name
    model: ModelSpec
    engine: EngineOptions
    gpus: GpuPool
    workload: Workload
    slos: SloSet
    tuning: TuningOptions = TuningOptions()
    alternatives: Mapping[Name, Alternative] = Field(
        default_factory=dict, description="What a study tries beside `engine`, by names of one's own."
    )
    rollout: RolloutOptions = RolloutOptions()
    gateway: GatewayOptions = GatewayOptions()
    ab_judge: JudgeOptions | None = Field(
        default=None, description="A command of yours that scores answers in A/B tests."
    )
    autoscale: AutoscaleOptions = AutoscaleOptions()
    shares: ShareOptions | None = Field(
        default=None, description="GPUs that services take turns on, asleep in between. None: GPUs of its own."
    )
    alerts: AlertOptions = AlertOptions()
    drift: DriftOptions = DriftOptions()
    spot: SpotOptions | None = Field(default=None, description="None: every replica runs on demand.")
    kubernetes: ClusterOptions | None = Field(default=None, description="For a fleet on a cluster, and `render`.")
    schedules: tuple[ScheduleSpec, ...] = ()
    follows: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}@[a-z][a-z0-9-]{0,30}$",
        examples=["llama@candidate"],
        description="model@alias of the registry: where the alias moves, that version goes out as a canary.",
    )
    mlflow: CatalogueLink | None = Field(default=None, description="Follow an alias of a registered model in MLflow.")
    initial_replicas: int = Field(default=1, ge=0, description="Replicas of the base flags when nothing serves yet.")

    @model_validator(mode="after")
    def _falls_back_elsewhere(self) -> ServiceSpec:
        if self.gateway.fallback == self.model.name:
            raise ValueError(f"gateway.fallback is {self.model.name}, the model itself")
        return self

    @model_validator(mode="after")
    def _spot_has_nodes(self) -> ServiceSpec:
        if self.kubernetes is not None and (self.spot is None) != (self.kubernetes.spot is None):
            raise ValueError("spot and kubernetes.spot belong together: how many, and on which nodes")
        return self

    @model_validator(mode="after")
    def _can_sleep(self) -> ServiceSpec:
        flags = {canonical_flag(name): value for name, value in self.engine.flags.items()}
        if self.shares is not None:
            check_shared(
                self.shares, self.autoscale, flags, self.initial_replicas, on_cluster=self.kubernetes is not None
            )
        missing = [
            *([] if flags.get("enable-sleep-mode") is True else ["engine.flags enable-sleep-mode: true"]),
            *([] if self.engine.env.get(SLEEP_SWITCH) == "1" else [f"engine.env {SLEEP_SWITCH}: '1'"]),
        ]
        if self.autoscale.warm_replicas and self.autoscale.warm_asleep and missing:
            raise ValueError(f"autoscale.warm_asleep needs {' and '.join(missing)}")
        if self.shares is not None and missing:
            raise ValueError(f"shares needs {' and '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _follows_one(self) -> ServiceSpec:
        if self.follows is not None and self.mlflow is not None:
            raise ValueError("follows and mlflow: a service follows one alias")
        return self

    @property
    def followed(self) -> str | None:
        """The model@alias of the registry whose versions go out by themselves."""
        if self.mlflow is not None:
            return self.mlflow.reference if self.mlflow.then is OnMove.CANARY else None
        return self.follows

    @model_validator(mode="after")
    def _told_apart(self) -> ServiceSpec:
        if ENGINE in self.engine.flags or any(ENGINE in each.flags for each in self._others()):
            raise ValueError(f"engine.flags: {ENGINE} is no flag; alternatives names what is tried beside engine")
        if self.engine.kind.value in self.alternatives:
            raise ValueError(f"alternatives: {self.engine.kind.value} is what engine is called; give another name")
        if any(each.time_lapse != self.engine.time_lapse for each in self._others()):
            raise ValueError("alternatives: engines whose time runs at another speed cannot be compared")
        return self

    def _others(self) -> tuple[EngineOptions, ...]:
        return tuple(each.engine for each in self.alternatives.values() if each.engine is not None)

    @property
    def ways(self) -> Mapping[str, ServiceSpec]:
        """Every way to serve the model, by name: the service's own, named as its kind, and each alternative alone."""
        own = self.evolve(alternatives={})
        return {self.engine.kind.value: own} | {
            name: own.evolve(
                engine=each.engine or self.engine,
                model=self.model.evolve(path=each.path or self.model.path),
                tuning=self.tuning.evolve(space=each.space) if each.space or each.engine else self.tuning,
            )
            for name, each in self.alternatives.items()
        }

    def served_by(self, config: EngineConfig) -> ServiceSpec:
        """Return the service as a configuration serves it. Raises InvalidInput for an alternative it does not name."""
        name = config.alternative
        if name is None:
            return self
        if name not in self.alternatives:
            known = ", ".join(self.alternatives) or "none are named"
            raise InvalidInput(
                f"{self.name} has no alternative {name}", allowed=f"alternatives of service.yaml: {known}"
            )
        return self.ways[name]

    @property
    def max_lag_ms(self) -> float:
        """How late a trial's generator, or an emulated engine, may be for its figures to be believed, ms (P99)."""
        return max(self.engine.max_lag_ms, self.tuning.levels.max_lag_ms or MAX_LAG_MS)

    @property
    def has_twin(self) -> bool:
        """Whether the twin says how fast its engines are: not of every kind, and of none that is asked for adapters."""
        return self.engine.driver.has_twin and not self.tuning.asked_adapters

    @property
    def service(self) -> ServiceName:
        return ServiceName(self.name)

    @property
    def baseline(self) -> EngineConfig:
        """vLLM's defaults with the user's base flags: what serves when nothing was rolled out yet."""
        return EngineConfig(flags=self.engine.flags)
