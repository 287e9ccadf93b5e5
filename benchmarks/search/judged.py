"""What the judged scenarios reached of the three targets: a line for each JSON of `judged.sh`.

python -m benchmarks.search.judged FOLDER
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

MINE, CHANCE, TPE = "ours_calibrated", "random", "optuna_tpe"
MOST_STARTS, LEAST_RATIO = 4, 3.0
HEADS = ("scenario", "starts (≤ 4)", "reached", "worse than random at (none)", "worst", "TPE / ours (≥ 3)", "missed")

Row = Mapping[str, Any]
"""A contestant's figures in one scenario, as `compare.report` has them."""


class Judged(NamedTuple):
    """One scenario. `worse` are the budgets at which our median gap is above random's; `worst` the largest difference
    of the two among all budgets (a gap is a share of the optimum's cost), `worst_at` its budget.
    """

    name: str
    starts: float
    runs: str
    worse: tuple[int, ...]
    worst: float
    worst_at: int
    ratio: float

    @property
    def missed(self) -> tuple[str, ...]:
        """The targets that were missed."""
        found = {
            "starts": self.starts > MOST_STARTS,
            "random": bool(self.worse),
            "GPU-seconds": not self.ratio >= LEAST_RATIO,
        }
        return tuple(name for name, missed in found.items() if missed)


def judged(scenario: Mapping[str, Any]) -> Judged:
    """Return what one scenario of a report reached. Raises KeyError where one of the three contestants is not in it."""
    by_name = {each["name"]: each for each in scenario["contestants"]}
    mine, chance, tpe = by_name[MINE], by_name[CHANCE], by_name[TPE]
    apart = {int(budget): _apart(mine, chance, budget) for budget in mine["median_gap_after"]}
    worst_at = max(apart, key=lambda budget: apart[budget])
    return Judged(
        scenario["name"],
        _or_never(mine["starts_to_5_percent"]["median"]),
        f"{mine['reached']}/{mine['runs']}",
        tuple(budget for budget, more in apart.items() if more > 1e-9),
        apart[worst_at],
        worst_at,
        _ratio(tpe, mine),
    )


def table(found: Sequence[Judged]) -> Iterator[str]:
    """Yield the lines of the table, and how many scenarios missed nothing."""
    yield "| " + " | ".join(HEADS) + " |"
    yield "|" + "---|" * len(HEADS)
    for each in found:
        budgets = ", ".join(str(budget) for budget in each.worse) or "none"
        worst = f"{_percent(each.worst)} at {each.worst_at}"
        missed = ", ".join(each.missed) or "nothing"
        cells = (each.name, _shown(each.starts), each.runs, budgets, worst, _shown(each.ratio), missed)
        yield "| " + " | ".join(cells) + " |"
    yield f"{sum(not each.missed for each in found)} of {len(found)} scenarios missed nothing"


def main(folder: Path) -> None:
    """Print the table of a folder's reports."""
    reports = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    for line in table([judged(scenario) for report in reports for scenario in report["scenarios"]]):
        print(line)


def _apart(mine: Row, chance: Row, budget: str) -> float:
    """Return how much larger our median gap is than random's; nothing where neither has found anything."""
    ours, theirs = (_or_never(each["median_gap_after"][budget]) for each in (mine, chance))
    return 0.0 if ours == theirs else ours - theirs


def _ratio(tpe: Row, mine: Row) -> float:
    """Return how many times our median GPU-seconds to 5 % TPE's are: infinite where only TPE never gets there, none
    where we do not.
    """
    theirs, ours = (_or_never(each["gpu_seconds_to_5_percent"]["median"]) for each in (tpe, mine))
    return 0.0 if math.isinf(ours) else theirs / ours


def _or_never(value: float | None) -> float:
    return math.inf if value is None else value


def _percent(share: float) -> str:
    return f"{share:+.1%}" if math.isfinite(share) else "nothing found" if share > 0 else "only random found nothing"


def _shown(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.3g}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
