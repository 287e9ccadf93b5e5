"""`profiles/*.yaml`: what `fleetune load` runs, as a user writes it. JSON Schema: `fleetune load schema`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.domain.slo import LatencySlo
from controlplane.domain.workload import Arrivals, Workload
from controlplane.reading.problems import describe
from controlplane.reading.text_file import read_text
from controlplane.reading.yaml_text import decoded
from loadtests.send.arrivals import RateShape
from loadtests.send.mixes import Part, build_mix
from loadtests.send.plan import Api, Timeouts
from loadtests.send.schedule import Schedule, build_schedule

_MOST_REQUESTS = 2e7  # a day at 230 a second; a slip in a unit would fill the memory
SHIPPED_DIR = Path(__file__).parents[1] / "profiles"

_LENGTHS = "prompts and lengths come from the workload or mix"
_ONE_ANSWER = "figures are of one answer per request, generated tokens only"
_OWNED = {
    "model": "it is --model",
    "stream": "answers are always streamed: there is no TTFT or TPOT otherwise",
    "stream_options": "include_usage is always sent: tokens are counted by it",
    "prompt": _LENGTHS,
    "messages": _LENGTHS,
    "input": _LENGTHS,
    "max_tokens": _LENGTHS,
    "max_completion_tokens": _LENGTHS,
    "ignore_eos": "it is force_length",
    "n": _ONE_ANSWER,
    "best_of": _ONE_ANSWER,
    "echo": _ONE_ANSWER,
}
"""Fields of a request that the generator writes itself, or that would make its figures wrong without a sign of it."""


class Profile(Value):
    """One load test: either a `workload` (a trace or lengths drawn alike) or a `mix` of kinds of requests."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    description: str = ""
    api: Api = Api.COMPLETIONS
    workload: Workload | None = None
    mix: tuple[Part, ...] = ()
    arrivals: Arrivals = Field(default=Arrivals(), description="Only with a mix; a workload has its own.")
    shape: RateShape | None = Field(default=None, description="How the rate changes over the run; steady if not given.")
    rate_rps: float = Field(gt=0, allow_inf_nan=False)
    duration_s: float = Field(default=60, gt=0, allow_inf_nan=False)
    warmup_s: float = Field(default=5, ge=0, allow_inf_nan=False)
    concurrency: int | None = Field(default=None, ge=1, description="Closed loop, for comparison; the rate is ignored.")
    seed: int = Field(default=0, ge=0)
    slos: tuple[LatencySlo, ...] = ()
    timeouts: Timeouts = Timeouts()
    force_length: bool = Field(default=True, description="Send ignore_eos; false for servers that refuse it.")
    max_model_len: int | None = Field(
        default=None, ge=1, description="Refuse prompts that would not fit with an answer."
    )
    extra_body: dict[str, JsonValue] = Field(
        default_factory=dict, description=f"More fields of every request, e.g. top_p; none of {', '.join(_OWNED)}."
    )

    @field_validator("extra_body")
    @classmethod
    def _not_ours(cls, extra_body: dict[str, JsonValue]) -> dict[str, JsonValue]:
        taken = [f"{name} is not for extra_body ({why})" for name, why in _OWNED.items() if name in extra_body]
        if taken:
            raise ValueError("; ".join(taken))
        return extra_body

    @model_validator(mode="after")
    def _one_source(self) -> Profile:
        if (self.workload is None) == (not self.mix):
            raise ValueError("give either a workload or a mix")
        return self

    def schedule(self) -> Schedule:
        """Return the schedule of warm-up and measured time. Raises InvalidInput when a request cannot fit the model."""
        total_s = self.warmup_s + self.duration_s
        if self.rate_rps * total_s > _MOST_REQUESTS:
            raise InvalidInput(
                f"profile {self.name} would send {self.rate_rps * total_s:.3g} requests",
                why=f"{self.rate_rps:g} requests/s for {total_s:g} s",
                allowed=f"at most {_MOST_REQUESTS:.3g}",
            )
        if self.workload is not None:
            built = build_schedule(
                self.workload, rate_rps=self.rate_rps, duration_s=total_s, seed=self.seed, shape=self.shape
            )
        else:
            built = build_mix(
                self.mix, self.arrivals, rate_rps=self.rate_rps, duration_s=total_s, seed=self.seed, shape=self.shape
            )
        self._check_fits(built)
        return built

    def _check_fits(self, schedule: Schedule) -> None:
        if not len(schedule):
            raise InvalidInput(
                f"profile {self.name} sends nothing", why=f"{self.rate_rps:g} requests/s for {self.duration_s:g} s"
            )
        if self.max_model_len is None:
            return
        longest = schedule.prompt_tokens + (0 if self.api is Api.EMBEDDINGS else schedule.output_tokens)
        beyond = int((longest > self.max_model_len).sum())
        if beyond:
            raise InvalidInput(
                f"{beyond} of {len(schedule)} requests of profile {self.name} are longer than the model's context",
                why=f"the longest has {int(longest.max())} tokens with its answer",
                allowed=f"at most {self.max_model_len} (max_model_len)",
            )


def shipped_profiles() -> tuple[str, ...]:
    """Return the names of the profiles that come with Fleetune."""
    return tuple(sorted(path.stem for path in SHIPPED_DIR.glob("*.yaml")))


def load_profile(name_or_path: str) -> Profile:
    """Read a shipped profile by name, or a file. Raises InvalidInput naming every wrong field."""
    path = SHIPPED_DIR / f"{name_or_path}.yaml" if name_or_path in shipped_profiles() else Path(name_or_path)
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(shipped_profiles())
        raise InvalidInput(
            f"cannot read profile '{name_or_path}'", why=unreadable(error), allowed=f"{known}, or a file"
        ) from error
    raw = decoded(text, source=name_or_path)
    if not isinstance(raw, dict):
        what = "nothing" if raw is None else "a list" if isinstance(raw, list) else "a text"
        raise InvalidInput(
            f"{name_or_path} is not a profile", why=f"it holds {what}", allowed="fields: fleetune load schema"
        )
    try:
        return Profile.model_validate(raw)
    except ValidationError as error:
        raise InvalidInput(f"{name_or_path} is not a valid profile", why=describe(error)) from error
