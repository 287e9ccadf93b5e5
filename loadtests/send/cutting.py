"""Rows of a trace longer than the workload allows: cut when sent, so counted, shown, and refused beyond a share.

A study on cut rows tunes for other traffic than was recorded. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controlplane.domain.errors import InvalidInput
from controlplane.domain.workload import TraceWorkload
from loadtests.send.traces import Trace


class CutRows(NamedTuple):
    """How many of a trace's rows are cut, and the longest prompt and answer there are."""

    cut: int
    rows: int
    longest_prompt: int
    longest_output: int

    @property
    def share(self) -> float:
        return self.cut / self.rows

    def check(self, workload: TraceWorkload) -> None:
        """Raise InvalidInput when more are cut than the workload accepts."""
        if self.share > workload.max_cut_share:
            raise InvalidInput(
                f"trace {workload.trace} is not what would be sent",
                why=f"{self.words(workload)}; max_cut_share is {workload.max_cut_share:g}",
                allowed=f"max_prompt_tokens {self.longest_prompt} and max_output_tokens {self.longest_output} send all "
                "of it, a larger max_cut_share accepts the cut",
            )

    def words(self, workload: TraceWorkload) -> str:
        """Say how many rows are cut, and to what."""
        limits = f"max_prompt_tokens {workload.max_prompt_tokens}, max_output_tokens {workload.max_output_tokens}"
        return f"{self.cut} of {self.rows} rows ({self.share:.1%}) are longer than {limits} and are cut to it"


def cut_rows(workload: TraceWorkload, trace: Trace) -> CutRows:
    """Return how much of a trace the workload's limits cut."""
    cut = (trace.prompt_tokens > workload.max_prompt_tokens) | (trace.output_tokens > workload.max_output_tokens)
    longest = int(trace.prompt_tokens.max()), int(trace.output_tokens.max())
    return CutRows(int(np.count_nonzero(cut)), len(trace), *longest)
