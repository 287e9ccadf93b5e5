"""Which revision gets a request, and which of its replicas. Pure: time and chance are arguments."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from random import Random
from typing import NamedTuple

from controlplane.domain.base import RevisionId
from controlplane.gateway.pools import Pool, Replica, Route
from controlplane.gateway.prefixes import BLOCK_TOKENS

_HASH_SPACE = float(1 << 64)


class _Candidate(NamedTuple):
    pool: Pool
    replicas: Sequence[Replica]


def choose(  # the arguments are everything the choice depends on
    route: Route,
    *,
    session: str | None,
    tried: Collection[Replica],
    prefer: RevisionId | None,
    now: float,
    chance: Random,
    blocks: Sequence[int] = (),
    only: Collection[str] | None = None,
) -> Replica | None:
    """Return the replica for the next attempt, or None when no untried one is left.

    A revision without usable replicas gets nothing: its share falls to the others. When every replica is put aside they
    are tried nevertheless, as nothing else could answer. `prefer` is the revision of the attempt that just failed,
    `blocks` the hashes of the prompt's beginning, where prefixes are to be heeded, `only`
    the engines that have what is asked for; None: all have.
    """
    candidates = _candidates(route, tried, now, only) or _candidates(route, tried, None, only)
    if not candidates:
        return None
    candidate = _preferred(candidates, prefer) or _by_weight(candidates, session, route.split_by or "", chance)
    return soonest(candidate.replicas, blocks, chance)


def soonest(replicas: Sequence[Replica], blocks: Sequence[int], chance: Random) -> Replica:
    """Return the replica with the fewest tokens in flight, less those of the prompt that it probably has in its cache.

    So a prefix draws a request to a replica that is busier only by less than what the prefix saves. Ties go to fewer
    requests, then at random.
    """
    if len(replicas) == 1:
        return replicas[0]
    costs = [(_tokens_before(replica, blocks), replica.in_flight) for replica in replicas]
    least = min(costs)
    return chance.choice([replica for replica, cost in zip(replicas, costs, strict=True) if cost == least])


def _tokens_before(replica: Replica, blocks: Sequence[int]) -> int:
    saved = BLOCK_TOKENS * replica.prefixes.matched(blocks) if blocks else 0
    return replica.tokens - saved


def session_score(session: str, revision: RevisionId, weight: int, split_by: str = "") -> float:
    """Score of weighted rendezvous hashing: the revision with the highest score gets the session.

    A revision wins with probability weight / sum of weights, and a growing weight only ever draws sessions *to* it
    (Schindelhauer & Schomaker 2005, "Weighted distributed hash tables": score = -weight / ln(uniform hash)).
    Each `split_by` shuffles sessions anew.
    """
    named = f"{revision}\0{session}\0{split_by}" if split_by else f"{revision}\0{session}"
    digest = hashlib.blake2b(named.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    uniform = (int.from_bytes(digest) + 0.5) / _HASH_SPACE
    return -weight / math.log(uniform)


def _candidates(
    route: Route, tried: Collection[Replica], now: float | None, only: Collection[str] | None
) -> list[_Candidate]:
    """Pools with weight and an untried replica; `now` None takes those put aside or ejected as well."""
    found = []
    for pool in route.pools:
        if pool.weight_percent == 0:
            continue
        fit = [replica for replica in (pool.replicas if now is None else pool.usable(now)) if replica not in tried]
        if only is not None:
            fit = [replica for replica in fit if replica.backend.engine_id in only]
        if fit:
            found.append(_Candidate(pool, fit))
    return found


def _preferred(candidates: Sequence[_Candidate], revision: RevisionId | None) -> _Candidate | None:
    if revision is None:  # the first attempt of a request, as most are
        return None
    return next((candidate for candidate in candidates if candidate.pool.revision == revision), None)


def _by_weight(candidates: Sequence[_Candidate], session: str | None, split_by: str, chance: Random) -> _Candidate:
    if len(candidates) == 1:
        return candidates[0]
    if session is None:
        return chance.choices(candidates, weights=[candidate.pool.weight_percent for candidate in candidates])[0]
    return max(
        candidates, key=lambda found: session_score(session, found.pool.revision, found.pool.weight_percent, split_by)
    )
