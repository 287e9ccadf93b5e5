"""Of several candidates one leads at a time, whatever their clocks say, and one of them does in the end."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.leadership import Candidate, LeaseRecord, Move, Terms, next_move

TERMS = Terms()


class Lease:
    """A lease as a server keeps it: a write on a stale version is refused."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self.version = 0

    def write(self, record: LeaseRecord, version: int) -> bool:
        if version != self.version:
            return False
        self.record, self.version = record, version + 1
        return True


def look(candidate: Candidate, lease: Lease, now_s: float, *, reached: bool = True) -> tuple[Candidate, Move]:
    """One step of a candidate whose clock says `now_s`; the server may not be reached."""
    if not reached or next_move(candidate, TERMS, now_s) is Move.END:
        return candidate, next_move(candidate, TERMS, now_s)
    seen = candidate.saw(lease.record, now_s)
    move = next_move(seen, TERMS, now_s)
    if move not in (Move.TAKE, Move.RENEW):
        return seen, move
    record = LeaseRecord(holder=candidate.identity, renewed=f"{candidate.identity} {now_s}")
    assert lease.write(record, lease.version)
    return seen.wrote(record, now_s), move


def test_the_first_takes_a_lease_that_nobody_holds_and_the_second_waits() -> None:
    lease = Lease()
    first, took = look(Candidate(identity="a"), lease, 0)
    _, waits = look(Candidate(identity="b"), lease, 1000)
    assert (took, first.leads, waits) == (Move.TAKE, True, Move.WAIT)


def test_a_lease_is_taken_over_when_it_was_seen_unchanged_for_as_long_as_it_lasts() -> None:
    lease = Lease()
    look(Candidate(identity="a"), lease, 0)
    second, moves = Candidate(identity="b"), []
    for now_s in (0, 14.9, 15):
        second, move = look(second, lease, now_s)
        moves.append(move)
    assert moves == [Move.WAIT, Move.WAIT, Move.TAKE]


def test_a_leader_that_cannot_renew_ends_before_anybody_else_begins() -> None:
    lease = Lease()
    first, _ = look(Candidate(identity="a"), lease, 0)
    moves = [look(first, lease, now_s, reached=False)[1] for now_s in (2, 9.9, 10)]
    assert moves == [Move.RENEW, Move.RENEW, Move.END]
    assert TERMS.renew_s < TERMS.lease_s


def test_a_leader_whose_lease_is_another_s_ends() -> None:
    lease = Lease()
    first, _ = look(Candidate(identity="a"), lease, 0)
    lease.record = LeaseRecord(holder="b", renewed="b")
    assert look(first, lease, 1)[1] is Move.END


@given(
    steps=st.lists(st.tuples(st.integers(0, 2), st.floats(0.1, 6), st.booleans()), max_size=120),
    offsets=st.lists(st.floats(0, 10_000), min_size=3, max_size=3),
)
def test_no_two_lead_at_the_same_moment_whatever_is_reached_and_whatever_clocks_say(
    steps: Sequence[tuple[int, float, bool]], offsets: Sequence[float]
) -> None:
    lease, now_s = Lease(), 0.0
    candidates = [Candidate(identity=name) for name in "abc"]
    for place, later_s, reached in steps:
        now_s += later_s
        candidates[place], _ = look(candidates[place], lease, now_s + offsets[place], reached=reached)
        acting = [
            each.identity
            for each, offset in zip(candidates, offsets, strict=True)
            if each.renewed_at_s is not None and now_s + offset - each.renewed_at_s < TERMS.renew_s
        ]
        assert len(acting) <= 1


@given(st.integers(0, 2))
def test_when_the_leader_is_gone_for_good_another_leads_within_the_lease_and_a_look(gone: int) -> None:
    lease, now_s = Lease(), 0.0
    candidates = [Candidate(identity=name) for name in "abc"]
    candidates[gone], _ = look(candidates[gone], lease, now_s)
    others = [place for place in range(3) if place != gone]
    while now_s < TERMS.lease_s + 2 * TERMS.retry_s:
        now_s += TERMS.retry_s
        for place in others:
            candidates[place], _ = look(candidates[place], lease, now_s)
    assert sum(candidates[place].leads for place in others) == 1
