"""A named, calibrated set of efficiencies for one GPU, precision and parallelism: what measurements add to data sheets.

Parameters are ratios and overheads, not times of one model, so that a profile carries over to other shapes.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from pydantic import Field, ValidationError

from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.reading.problems import describe
from controlplane.reading.text_file import read_text
from tuner.twin.layers import Trait


class Parameters(Value):
    """The fitted numbers. Efficiencies are shares of the data sheet's figure; defaults are typical of vLLM on H200."""

    memory_efficiency: float = Field(default=0.78, gt=0, le=1.2, description="Weights: share of peak bandwidth.")
    matmul_efficiency: float = Field(default=0.72, gt=0, le=1.2, description="Large steps: share of peak FLOP/s.")
    matmul_knee_tokens: float = Field(default=60, ge=0, description="Tokens by which efficiency lags.")
    half_tile: float = Field(default=0.05, ge=0, description="Products of about 24 tokens are slower by this share.")
    throttle: float = Field(default=0.1, ge=0, description="Matrix products slow down by this under lasting load.")
    expert_memory_efficiency: float = Field(
        default=0.6, gt=0, le=1.2, description="Routed experts: share of bandwidth."
    )
    expert_matmul_efficiency: float = Field(default=0.45, gt=0, le=1.2, description="Grouped products: share of peak.")
    expert_knee_rows: float = Field(default=30, ge=0, description="Rows by which each touched expert lags.")
    kv_efficiency: float = Field(default=0.6, gt=0, le=1.5, description="Decode attention: share of peak bandwidth.")
    attention_efficiency: float = Field(default=0.4, gt=0, le=1.2, description="Prompt attention: share of bf16 peak.")
    step_fixed_ms: float = Field(default=0.6, ge=0)
    sequence_us: float = Field(default=6, ge=0, description="GPU and sampler time per sequence of a step.")
    allreduce_us: float = Field(default=8, ge=0, description="Latency of one all-reduce; two per layer.")
    link_efficiency: float = Field(default=0.6, gt=0, le=1.2, description="All-reduce: share of link bandwidth.")
    launch_graph_ms: float = Field(default=1.0, ge=0)
    launch_piecewise_ms: float = Field(default=5.0, ge=0)
    launch_eager_ms: float = Field(default=12.0, ge=0)
    prompt_ms: float = Field(default=0.2, ge=0, description="CPU per prompt chunk of a step, before its launch.")
    schedule_ms: float = Field(default=0.3, ge=0)
    schedule_sequence_us: float = Field(default=6, ge=0)
    intake_ms: float = Field(default=1.2, ge=0, description="API server per request, serial.")
    intake_token_us: float = Field(default=0.4, ge=0)
    output_us: float = Field(default=25, ge=0, description="API server per streamed chunk, serial.")
    wire_ms: float = Field(default=3.0, ge=0, description="Client and network per request.")
    wire_token_us: float = Field(default=0.7, ge=0)


class TermError(Value):
    """How well one kind of probe is met: median absolute relative error over `points` measured numbers."""

    term: str
    points: int
    median_abs_error: float


class Range(Value):
    """What the probes covered; a prediction beyond it says so."""

    max_sequences: int = 256
    max_prompt_tokens: int = 7000
    max_context_tokens: int = 260_000


class Profile(Value):
    """Parameters with where they come from. `uncertainty` is the 1-sigma relative error of predicted latencies."""

    name: str
    gpu: str
    model: str
    linear_params: int | None = Field(default=None, description="The model's size; None when nothing was measured.")
    weight_bits: int = 16
    tensor_parallel_size: int = 1
    kv_bits: int = Field(default=16, description="Of one key or value in the cache of the engine it was measured on.")
    traits: tuple[Trait, ...] = Field(default=(), description="What sets the measured architecture apart.")
    engine_version: str = "0.26.0"
    parameters: Parameters = Parameters()
    sources: tuple[str, ...] = Field(default=(), description="Files, probes and the one trace cell it was fitted on.")
    fit: tuple[TermError, ...] = ()
    calibrated: Range = Range()
    uncertainty: float = Field(default=0.06, gt=0)
    transferred_from: str | None = None


def check_version(profile: Profile, engine_version: str) -> None:
    """Raise InvalidInput when the profile was measured on another release line of the engine (0.26 and 0.27, say)."""
    if profile.engine_version.split(".")[:2] != engine_version.split(".")[:2]:
        raise InvalidInput(
            f"profile {profile.name} was calibrated on engine {profile.engine_version}, not {engine_version}",
            why="schedulers and kernels change between releases",
            allowed="calibrate again, or name another profile",
        )


def shipped_profiles() -> tuple[Profile, ...]:
    """Return every profile that came with the project, by name."""
    folder = resources.files("tuner.twin").joinpath("profiles")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return tuple(parse_profile(file.read_text(), source=file.name) for file in files)


def load_profile(name: str, *, folder: Path | None = None) -> Profile:
    """Return the profile called `name` from `folder` (looked at first) or from the shipped ones.

    Raises InvalidInput when there is none or the file is not a profile.
    """
    if folder is not None and (folder / f"{name}.json").is_file():
        return _kept_profile(folder / f"{name}.json")
    known = {profile.name: profile for profile in shipped_profiles()}
    if name not in known:
        raise InvalidInput(f"no twin profile {name!r}", allowed=", ".join(known) or "none is shipped")
    return known[name]


def _kept_profile(file: Path) -> Profile:
    try:
        return parse_profile(read_text(file), source=str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {file}", why=unreadable(error), allowed="a twin profile") from error


def save_profile(profile: Profile, folder: Path) -> Path:
    """Write `<folder>/<name>.json` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{profile.name}.json"
    file.write_text(json.dumps(profile.model_dump(mode="json"), indent=1) + "\n")
    return file


def parse_profile(text: str, *, source: str) -> Profile:
    """Read a profile from JSON. Raises InvalidInput."""
    try:
        return Profile.model_validate_json(text)
    except ValidationError as error:
        raise InvalidInput(f"{source} is not a twin profile", why=describe(error)) from error
