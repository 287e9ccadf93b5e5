"""A prompt goes where its beginning is in the cache, as long as that saves more than it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import Backend
from controlplane.gateway.choice import soonest
from controlplane.gateway.fingerprint import Prompt
from controlplane.gateway.pools import Replica
from controlplane.gateway.prefixes import BLOCK_TOKENS, Prefixes
from tests.unit.gateway.test_ending import an_exchange


def replica(name: str, tokens: int = 0, *known: Sequence[int]) -> Replica:
    found = Replica(Backend(engine_id=name, url=f"http://{name}"), RevisionId("rev"), tokens=tokens)
    for blocks in known:
        found.prefixes.learn(blocks)
    return found


def prompt(*parts: int, length: int = 8) -> tuple[int, ...]:
    """Chained hashes of `length` blocks for each part: equal parts at the beginning have equal hashes."""
    return tuple(hash((parts[: index // length + 1], index)) for index in range(length * len(parts)))


def test_the_fewest_tokens_in_flight_win_not_the_fewest_requests() -> None:
    busy, calm = replica("busy", 9_000), replica("calm", 500)
    busy.in_flight, calm.in_flight = 1, 4
    assert soonest([busy, calm], (), Random(0)) is calm


def test_a_known_beginning_wins_over_an_equal_load() -> None:
    warm, cold = replica("warm", 100, prompt(1, 2)), replica("cold", 100)
    for seed in range(20):
        assert soonest([cold, warm], prompt(1, 3), Random(seed)) is warm


@given(
    loads=st.lists(st.integers(0, 3000), min_size=2, max_size=6),
    shared=st.lists(st.integers(0, 4), min_size=6, max_size=6),
)
def test_a_prefix_never_costs_more_than_it_saves(loads: list[int], shared: list[int]) -> None:
    asked = prompt(1, 2, 3, 4)
    fleet = [replica(str(index), load, prompt(*range(1, shared[index] + 1), 99)) for index, load in enumerate(loads)]
    chosen = soonest(fleet, asked, Random(1))
    for other in fleet:
        saved = BLOCK_TOKENS * (chosen.prefixes.matched(asked) - other.prefixes.matched(asked))
        assert chosen.tokens - other.tokens <= saved


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_what_matches_is_the_common_beginning(one: list[int], other: list[int]) -> None:
    known = Prefixes()
    known.learn(prompt(*one))
    common = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    assert known.matched(prompt(*other)) == 8 * common


def test_what_was_not_used_for_long_is_forgotten_from_its_end() -> None:
    known = Prefixes(most=16)
    known.learn(prompt(1, 2))
    known.learn(prompt(1))
    known.learn(prompt(7, length=4))
    assert known.matched(prompt(1, 2)) == 12
    assert known.matched(prompt(7, length=4)) == 4


def test_conversations_keep_their_replica_and_the_load_stays_even() -> None:
    """400 conversations of some 6 turns, 24 at a time, on 4 replicas: what is found in caches, against load alone."""
    hits: dict[bool, int] = {}
    worst: dict[bool, int] = {}
    longest = 0
    for heed in (True, False):
        fleet, chance, flying, turns = [replica(str(n)) for n in range(4)], Random(5), [], Counter[int]()
        hits[heed], worst[heed] = 0, 0
        for step in range(2400):
            talk = step // 144 * 24 + chance.randrange(24)
            turns[talk] += 1
            asked = prompt(*(talk * 100 + part for part in range(turns[talk])))
            chosen = soonest(fleet, asked if heed else (), chance)
            hits[heed] += chosen.prefixes.matched(asked)
            chosen.prefixes.learn(asked)
            longest = max(longest, BLOCK_TOKENS * len(asked))
            cost = BLOCK_TOKENS * len(asked) + chance.randrange(200)
            chosen.tokens += cost
            flying.append((chosen, cost))
            if len(flying) > 32:
                done, paid = flying.pop(chance.randrange(len(flying)))
                done.tokens -= paid
            worst[heed] = max(worst[heed], max(r.tokens for r in fleet) - min(r.tokens for r in fleet))
    assert hits[True] >= 1.2 * hits[False]
    assert worst[True] <= worst[False] + longest


def test_a_record_tells_how_busy_its_replica_was_and_what_it_had_been_sent() -> None:
    busy, tally = replica("e", 100, prompt(1, 2)), an_exchange().tally
    tally.call = tally.call._replace(prompt=Prompt(blocks=prompt(1, 3)))
    busy.in_flight = 4
    tally.sent_to(busy, 20, now=0.0, heeds_prefixes=True)
    assert (tally.ahead, tally.cached_blocks, tally.weight_percent) == (4, 8, 20)
    tally.sent_to(busy, now=0.0)
    assert (tally.ahead, tally.cached_blocks) == (4, None)
