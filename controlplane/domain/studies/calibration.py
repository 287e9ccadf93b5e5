"""What a study's own baseline told of the speed of its engines, where no profile of the twin's fits them."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from controlplane.domain.base import Value


class Misfit(StrEnum):
    """Why the twin's own profiles do not do."""

    GPU = "unknown GPU"
    MODEL = "unknown model"
    CONTRADICTED = "contradicted"  # the baseline's levels lie outside what was forecast


class Factors(Value):
    """How many times as long each part of an engine takes as the profile that was carried over says."""

    memory: float = Field(default=1.0, gt=0, description="Reading weights, keys and values.")
    compute: float = Field(default=1.0, gt=0, description="Matrix products and prompt attention.")
    launch: float = Field(default=1.0, gt=0, description="The host: scheduling and launching a step.")
    eager: float = Field(default=1.0, gt=0, description="Launching a step above the largest graph, beside `launch`.")
    server: float = Field(default=1.0, gt=0, description="The API server and the wire.")
    stream: float = Field(default=1.0, gt=0, description="Streaming a token at the API server, beside `server`.")
    seat_us: float = Field(default=0.0, ge=0, description="Of each step for each of max-num-seqs, there or not.")
    padding: float = Field(default=0.0, ge=0, description="Share of the token budget multiplied in vain in every step.")
    piece_tokens: float = Field(default=0.0, ge=0, description="Tokens of one prompt a step at most; 0: no limit.")
    cache: float = Field(default=1.0, gt=0, description="Share of the KV cache that is there.")


class Rival(Value):
    """Other factors that explain the same levels."""

    factors: Factors
    odds: float = Field(gt=0, le=1, description="How likely they are beside the likeliest.")


class Calibration(Value):
    """A profile made here: factors over what was carried over, with what they were found from."""

    misfits: tuple[Misfit, ...] = Field(min_length=1)
    factors: Factors
    trial: int = Field(ge=0, description="The number of the trial whose levels it is from.")
    levels: int = Field(ge=1)
    error_before: float = Field(ge=0, description="Median |predicted / measured - 1| of the levels' percentiles.")
    error_after: float = Field(ge=0)
    uncertainty: float = Field(gt=0, description="1-sigma relative error of the engine's speed, of its own kind.")
    weight_bits: int = Field(description="Of the engine it was measured on.")
    kv_bits: int = Field(default=16, description="Of the engine it was measured on.")
    tensor_parallel_size: int = Field(ge=1)
    memory_gib: float = Field(gt=0, description="Of one GPU; assumed where nobody knows it.")
    rivals: tuple[Rival, ...] = Field(default=(), description="What explains the levels nearly as well.")

    def by(self, rival: Rival) -> Calibration:
        """Return the calibration as a rival explains the levels."""
        return self.evolve(factors=rival.factors, rivals=())

    @property
    def summary(self) -> str:
        """One line for plans, progress and reports."""
        why = " and ".join(_WHY[each] for each in self.misfits)
        off = f"{_percent(self.error_before)} in the median before, {_percent(self.error_after)} now"
        by = f"the {_levels(self.levels)} of trial {self.trial}, the baseline"
        made = f"the twin (simulated engine) was calibrated here by {by}, because {why}"
        return f"{made}: the latencies it gives for them were off by {off}{_others(len(self.rivals))}"


_WHY = {
    Misfit.GPU: "it does not know this GPU's speed",
    Misfit.MODEL: "the model is not in its table",
    Misfit.CONTRADICTED: "they measured other latencies than it had forecast",
}


def _others(rivals: int) -> str:
    if rivals == 0:
        return ""
    ways = "another twin explains" if rivals == 1 else f"{rivals} other twins explain"
    return f"; {ways} them nearly as well, and the next trials tell which is right"


def _levels(count: int) -> str:
    return "load level" if count == 1 else f"{count} load levels"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"
