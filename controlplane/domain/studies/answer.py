"""What a study answers: a closed set, each with what may be done with it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from controlplane.domain.base import Value


class Answer(StrEnum):
    IMPROVEMENT = "improvement"  # a cheaper fleet, proved
    IMPROVEMENT_UNCHECKED = "improvement_unchecked"  # likely a cheaper fleet; something of the proof is missing
    SAME_FLEET_MORE_CAPACITY = "same_fleet_more_capacity"  # as dear as the baseline's may be, with more room
    NO_IMPROVEMENT = "no_improvement"  # a worthwhile one is unlikely
    OUT_OF_REACH = "out_of_reach"  # no fleet on these GPUs, within these ceilings, holds the target

    @property
    def is_improvement(self) -> bool:
        """True when the recommended configuration is worth a rollout."""
        match self:
            case Answer.IMPROVEMENT | Answer.IMPROVEMENT_UNCHECKED | Answer.SAME_FLEET_MORE_CAPACITY:
                return True
            case Answer.NO_IMPROVEMENT | Answer.OUT_OF_REACH:
                return False

    @property
    def is_cheaper(self) -> bool:
        """True when the recommended fleet is said to cost less than the baseline's."""
        return self in (Answer.IMPROVEMENT, Answer.IMPROVEMENT_UNCHECKED)

    @property
    def words(self) -> str:
        """The answer in a few words, as tables and pages show it."""
        match self:
            case Answer.IMPROVEMENT:
                return "Improvement"
            case Answer.IMPROVEMENT_UNCHECKED:
                return "Improvement, not proved"
            case Answer.SAME_FLEET_MORE_CAPACITY:
                return "Same fleet, more capacity"
            case Answer.NO_IMPROVEMENT:
                return "No improvement"
            case Answer.OUT_OF_REACH:
                return "Target out of reach"


class Chances(Value):
    """How sure an answer is. Probabilities are by everything the study measured."""

    holds: float = Field(ge=0, le=1, description="That the recommended fleet meets every limit at the target.")
    fewer_hold: float | None = Field(
        default=None, ge=0, le=1, description="That one replica fewer does; None of a single replica. How much room is."
    )
    cheaper: float = Field(ge=0, le=1, description="That it costs less than what the baseline needs; 0 for itself.")
    gains: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="That it holds, and as many GPUs of the baseline carry less and lack the headroom; None of old.",
    )
    capacity_ratio: float = Field(gt=0, description="Its requests per second and GPU over the baseline's.")
    capacity_ratio_low: float = Field(gt=0, description="Low end of its 95 % interval.")
    capacity_ratio_high: float
    missed_saving: float = Field(
        default=0, ge=0, le=1, description="Largest saving of a measured fleet that is not less likely than 5 %."
    )
    missed_chance: float = Field(
        default=0,
        ge=0,
        le=1,
        description="That one measured needs fewer GPUs than the baseline's fleet, or carries more on all.",
    )
    gpus_needed: int | None = Field(default=None, description="Out of reach: GPUs of the fleet that would do.")
