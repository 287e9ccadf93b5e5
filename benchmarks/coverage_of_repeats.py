"""Whether stated gains hold on real engines, where the truth is known: a configuration's gain over itself is none.

    python -m benchmarks.coverage_of_repeats STUDY.json... [--json OUT]

Each file is a study as `fleetune tune --json` wrote it. Every configuration that was measured in several engine lives,
in one study or in several of the same service, is compared with itself: what is believed after one life over what is
believed after another, as a study states it. The 95 % interval should hold 1 in 95 % of pairs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from tuner.answer.evidence import measured
from tuner.answer.fleets import Interval, ratio

_ALONE = (TrialKind.BASELINE, TrialKind.SEARCH, TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE)


class Life(NamedTuple):
    """One engine life of a configuration and where it was measured."""

    study: str
    trial: Trial


class Pair(NamedTuple):
    """One configuration in two lives, and the gain of the second over the first as it would be stated."""

    first: Life
    second: Life
    stated: Interval

    @property
    def holds(self) -> bool:
        """True when the stated interval holds the truth, which is 1."""
        return self.stated.low <= 1 <= self.stated.high


def lives(paths: Sequence[Path]) -> dict[tuple[str, str, str], list[Life]]:
    """Return every engine life that found a capacity, by model, workload and configuration."""
    found: dict[tuple[str, str, str], list[Life]] = {}
    for path in paths:
        raw = json.loads(path.read_text())
        spec = raw["study"]["spec"]
        what = json.dumps([spec["workload"], spec["slos"]["latency"], spec["gpus"]["type"]], sort_keys=True)
        for trial in map(Trial.model_validate, raw["trials"]):
            if trial.kind in _ALONE and trial.state is TrialState.FEASIBLE and trial.capacity is not None:
                key = (spec["model"]["name"], what, trial.config.content_hash())
                found.setdefault(key, []).append(Life(path.stem, trial))
    return found


def pairs(found: dict[tuple[str, str, str], list[Life]]) -> Iterator[Pair]:
    """Yield every two lives of one configuration that had different arrivals."""
    for same in found.values():
        for first, second in itertools.combinations(same, 2):
            if first.trial.levels[0].report.seed != second.trial.levels[0].report.seed:
                beliefs = [next(iter(measured([life.trial]).values())).belief for life in (first, second)]
                yield Pair(first, second, ratio(beliefs[1].samples(), beliefs[0].samples()))


def report(found: Sequence[Pair]) -> dict[str, Any]:
    """Return each pair and the share that holds."""
    rows = [
        {
            "studies": sorted({pair.first.study, pair.second.study}),
            "kinds": [pair.first.trial.kind.value, pair.second.trial.kind.value],
            "found_rps": [round(_found(life), 2) for life in (pair.first, pair.second)],
            "stated": [round(value, 3) for value in pair.stated],
            "holds": pair.holds,
        }
        for pair in found
    ]
    apart = [abs(math.log(_found(pair.second) / _found(pair.first))) for pair in found]
    share = sum(pair.holds for pair in found) / len(found) if found else None
    return {"pairs": rows, "holds": share, "largest_apart": max(apart, default=None)}


def _found(life: Life) -> float:
    assert life.trial.capacity is not None  # of lives only those with one are taken
    return life.trial.capacity.rps


def main() -> None:
    """Compare, print, and with --json write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    told = report(list(pairs(lives(given.studies))))
    for row in told["pairs"]:
        print(row["kinds"], row["found_rps"], row["stated"], "holds" if row["holds"] else "DOES NOT HOLD 1")
    print(f"{sum(row['holds'] for row in told['pairs'])} of {len(told['pairs'])} pairs hold")
    if given.json is not None:
        given.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
