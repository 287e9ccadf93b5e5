"""How soon doubled prompts are found at 0.2 requests/s, and how often none were, by traffic; in simulated time.

    nice python -m benchmarks.drift_lengths --months 6 --changes 400 --json docs/results/drift-lengths.json

One length alone, by the product's own sums: of batches and request by request. `lognormal` lengths (cv 1.2) come in
sessions of three on average, one after the other; `interleaved` ones with a minute between a session's requests, named
by the client or not; `long sessions` have six on average and ten at most; `bursts` come at gamma gaps of four times the
squared cv of Poisson; `conversations` and `code` are the lengths of Azure's traces, in pieces of 50 requests in a row
drawn anywhere. A change begins anywhere within a batch, after a day of traffic (20 different ones).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.drift import MONTH_S, SESSION, Floats, lengths_of
from benchmarks.figures import asked_as, tell
from controlplane.domain.operations.drift import BATCH_REQUESTS, Signal, Watch, added, followed, judged
from controlplane.domain.operations.drift_quick import Length
from controlplane.services.operations.drift_signals import Sessions
from loadtests.send.traces import load_trace

RATE_RPS, PIECE = 0.2, 50
LOOK_REQUESTS, STATIONARY_LOOK = 4, 20  # the product looks every 20 s; without a change less often, to be sooner done
BATCH_S = BATCH_REQUESTS / RATE_RPS
WARM_REQUESTS, _BEFORE, AFTER_REQUESTS = 17_280, 400, 4_000
MEAN, WARMED = 1000.0, 20
_WHAT = Signal.PROMPT
_WAS = {_WHAT: MEAN}


class Traffic(NamedTuple):
    """Lengths in the order of arrival, the session of each where it is named, and when each came, seconds."""

    tokens: Floats
    sessions: list[str | None]
    at_s: Floats


class Found(NamedTuple):
    """After how many requests, and by which sums."""

    requests: int
    quick: bool


Kind = Callable[[int, np.random.Generator], Traffic]


def lognormal(count: int, chance: np.random.Generator) -> Traffic:
    return Traffic(
        lengths_of(_ids(count, SESSION, chance), MEAN, chance).astype(np.float64),
        [None] * count,
        _poisson(count, chance),
    )


def bursts(count: int, chance: np.random.Generator) -> Traffic:
    return lognormal(count, chance)._replace(at_s=np.cumsum(chance.gamma(0.25, 4 / RATE_RPS, size=count)))


def interleaved(*, named: bool, session: float = SESSION, think_s: float = 60.0) -> Kind:
    def of(count: int, chance: np.random.Generator) -> Traffic:
        ids = _ids(count, session, chance)
        tokens = lengths_of(ids, MEAN, chance).astype(np.float64)
        first = np.concatenate([[True], ids[1:] != ids[:-1]])
        begins_s = np.cumsum(chance.exponential(count / RATE_RPS / first.sum(), size=first.sum()))[np.cumsum(first) - 1]
        thought_s = np.cumsum(np.where(first, 0.0, chance.exponential(think_s, size=count)))
        at_s = begins_s + thought_s - thought_s[first][np.cumsum(first) - 1]
        order = np.argsort(at_s, kind="stable")
        return Traffic(tokens[order], [str(each) if named else None for each in ids[order].tolist()], at_s[order])

    return of


def traced(name: str) -> Kind:
    def of(count: int, chance: np.random.Generator) -> Traffic:
        recorded = load_trace(name).prompt_tokens.astype(np.float64)
        begins = chance.integers(0, len(recorded) - PIECE, size=count // PIECE + 1)
        tokens = recorded[(begins[:, None] + np.arange(PIECE)).ravel()[:count]]
        return Traffic(tokens * MEAN / _mean(recorded), [None] * count, _poisson(count, chance))

    return of


KINDS: dict[str, Kind] = {
    "lognormal": lognormal,
    "bursts": bursts,
    "interleaved": interleaved(named=False),
    "interleaved, named": interleaved(named=True),
    "long sessions": interleaved(named=False, session=6.0),
    "long sessions, named": interleaved(named=True, session=6.0),
    "conversations": traced("azure-llm-2023/conv"),
    "code": traced("azure-llm-2023/code"),
}


def _ids(count: int, session: float, chance: np.random.Generator) -> Any:
    """Return the session of each request: geometric in length, ten requests at most."""
    sizes = np.minimum(chance.geometric(1 / session, size=count), 10)
    return np.repeat(np.arange(count), sizes)[:count]


def _poisson(count: int, chance: np.random.Generator) -> Floats:
    return np.cumsum(chance.exponential(1 / RATE_RPS, size=count))


def _mean(recorded: Floats) -> float:
    """Return the mean of pieces drawn anywhere: requests at either end are in fewer of them."""
    return float(np.convolve(recorded, np.ones(PIECE) / PIECE, "valid")[:-1].mean())


class Service:
    """The watch of one service, given its requests in the order in which they came."""

    def __init__(self, watch: Watch | None = None) -> None:
        self.watch = watch or Watch()
        self._sessions = Sessions()
        self._fills, self._at_s = 0, 0.0

    def follow(self, traffic: Traffic, *, look: int, begin: int = 0, end: int | None = None) -> Iterator[Found]:
        """Yield the alarms, a look after each so many requests; after each alarm the sums begin anew."""
        tokens = np.maximum(1, traffic.tokens).astype(np.int64).tolist()
        last = len(tokens) if end is None else end
        for at in range(begin, last, look):
            lengths = [
                self._sessions.length(*each)
                for each in zip(traffic.sessions[at : at + look], tokens[at : at + look], strict=True)
            ]
            after = min(at + look, last)
            seconds, self._at_s = traffic.at_s[after - 1] - self._at_s, traffic.at_s[after - 1]
            yield from (Found(after, quick) for quick in self._look(lengths, max(0.0, seconds)))

    def _look(self, lengths: Sequence[Length], seconds: float) -> Sequence[bool]:
        """Return whether it was found request by request, of each alarm."""
        self._fills += len(lengths)
        watch = followed(added(self.watch, {_WHAT: [each.tokens for each in lengths]}), {_WHAT: lengths}, _WAS, seconds)
        if self._fills < BATCH_REQUESTS and not watch.is_sudden:
            self.watch = watch
            return []
        after, drifts = judged(watch, _WAS, BATCH_S)
        self.watch, self._fills = after.anew() if drifts else after, 0
        return [watch.is_sudden for _ in drifts]


def false_alarms(kind: Kind, seed: int) -> list[Found]:
    """Return the alarms of a month of stationary traffic."""
    return list(Service().follow(kind(int(RATE_RPS * MONTH_S), np.random.default_rng(seed)), look=STATIONARY_LOOK))


def warmed(kind: Kind, seed: int) -> Watch:
    """Return the watch after a day without a change."""
    service = Service()
    list(service.follow(kind(WARM_REQUESTS, np.random.default_rng(seed)), look=STATIONARY_LOOK))
    return service.watch


def found_after_min(kind: Kind, watch: Watch, seed: int) -> tuple[float, bool] | None:
    """Return minutes from a doubling until it is found, and whether request by request; None: not at all."""
    chance = np.random.default_rng(seed)
    traffic = kind(AFTER_REQUESTS, chance)
    begins = _BEFORE + int(chance.integers(BATCH_REQUESTS))
    traffic.tokens[begins:] *= 2
    service = Service(watch)
    list(service.follow(traffic, look=STATIONARY_LOOK, end=_BEFORE))
    for found in service.follow(traffic, look=LOOK_REQUESTS, begin=_BEFORE):
        if found.requests > begins:
            return float(traffic.at_s[found.requests - 1] - traffic.at_s[begins - 1]) / 60, found.quick
    return None


def row(name: str, *, months: int, changes: int, first_seed: int) -> dict[str, Any]:
    """Return what one kind of traffic came to."""
    kind = KINDS[name]
    alarms = [each for seed in range(first_seed, first_seed + months) for each in false_alarms(kind, seed)]
    known = [warmed(kind, first_seed + 900 + number) for number in range(WARMED)]
    seeds = range(first_seed + 1000, first_seed + 1000 + changes)
    took = [found_after_min(kind, known[seed % WARMED], seed) for seed in seeds]
    minutes = np.array([np.inf if each is None else each[0] for each in took])
    return {
        "traffic": name,
        "months": months,
        "false_alarms": len(alarms),
        "of_them_request_by_request": sum(each.quick for each in alarms),
        "changes": changes,
        "median_min": round(float(np.median(minutes)), 1),
        "p95_min": round(float(np.quantile(minutes, 0.95)), 1),
        "slowest_min": round(float(minutes.max()), 1),
        "within_30_min": int((minutes <= 30).sum()),
    }


def main() -> None:
    """Run, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=6)
    parser.add_argument("--changes", type=int, default=400)
    parser.add_argument("--first-seed", type=int, default=60_000)
    parser.add_argument("--traffic", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    for name in asked.traffic:
        rows.append(row(name, months=asked.months, changes=asked.changes, first_seed=asked.first_seed))
        print(rows[-1], flush=True)
    tell(asked_as("drift_lengths") | {"rate_rps": RATE_RPS, "rows": rows}, asked.json)


if __name__ == "__main__":
    main()
