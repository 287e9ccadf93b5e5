"""What one user meets, or another revision took, is not the canary's doing; what users leave is looked at."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.analysis import Verdict
from controlplane.domain.rollouts.arm import Arm
from controlplane.domain.rollouts.comparing import Control, Evidence
from controlplane.domain.rollouts.guards import guard
from controlplane.domain.rollouts.judge import judge
from controlplane.domain.rollouts.rollout_options import StepSpec
from tests.builders_serving import NOW, after
from tests.unit.domain.test_judge import OPTIONS, SLOS, counted, record

BROKEN: dict[str, Any] = {"status": 500, "error": "upstream_5xx", "ttft_ms": None}
REFUSED: dict[str, Any] = {"status": 400, "error": "upstream_4xx", "ttft_ms": None}
LATE: dict[str, Any] = {"ttft_ms": 900, "e2e_ms": 950}
LEFT: dict[str, Any] = {"client_gone": True, "status": 499, "ttft_ms": None, "e2e_ms": 300}
STEP = StepSpec(weight_percent=20, min_samples=50, min_s=10)


def verdict(canary: Arm, stable: Arm, before: Arm | None = None) -> Verdict:
    return judge(_evidence(canary, stable, before), SLOS, OPTIONS, STEP, started_at=NOW, now=after(120)).verdict


def _evidence(canary: Arm, stable: Arm, before: Arm | None = None) -> Evidence:
    known = None if before is None else before.counts()
    return Evidence(canary=canary.counts(), stable=stable.counts(), before=known, control=Control.CONCURRENT)


def _traffic(chance: random.Random, broken: dict[str, Any]) -> Iterator[GatewayRecord]:
    """One user of a fiftieth of all requests, whose own are broken by any engine; everybody else is well."""
    while True:
        heavy = chance.random() < 0.02
        yield record(session="heavy" if heavy else f"s{chance.random()}", **(broken if heavy else {}))


@pytest.mark.parametrize("broken", [BROKEN, REFUSED])
def test_an_equal_canary_is_not_aborted_for_one_user_whose_requests_any_engine_breaks(broken: dict[str, Any]) -> None:
    """At 20 % one rollout of five got that user, and aborted: request by request it is a tenth of the canary's."""
    for seed in range(4):
        chance = random.Random(seed)
        canary, stable, before = (counted([]) for _ in range(3))
        traffic = _traffic(chance, broken)
        for _ in range(600):
            before.add(next(traffic))
        for number in range(1500):
            made = next(traffic)
            mine = made.session == "heavy" or chance.random() < 0.2
            (canary if mine else stable).add(made)
            if number % 100 == 99:
                assert verdict(canary, stable, before) is not Verdict.FAIL


def test_a_canary_that_breaks_requests_of_many_users_fails_as_soon_as_before() -> None:
    canary = counted([record(session=f"s{n}", **(BROKEN if n % 5 == 0 else {})) for n in range(200)])
    stable = counted([record(session=f"t{n}") for n in range(2000)])
    assert verdict(canary, stable) is Verdict.FAIL


def _hit(canary: Arm, stable: Arm) -> str | None:
    found = guard([canary], _evidence(canary, stable), OPTIONS, after(1), beside=stable)
    return None if found is None else found.guard


def _sessions(name: Callable[[int], str | None], requests: int, **changes: Any) -> list[GatewayRecord]:
    return [record(session=name(n), **changes) for n in range(requests)]


def _one(_: int) -> str:
    return "one"


def _many(number: int) -> str:
    return f"s{number}"


ONE_TOKEN = {"stop": "stop", "output_tokens": 1}
CUT = {"error": "truncated", "truncated": True}


@pytest.mark.parametrize(
    ("odd", "rail"), [(BROKEN, "5xx_burst"), (CUT, "truncated"), (ONE_TOKEN, "degenerate_answers")]
)
def test_guard_rails_look_at_what_several_users_meet(odd: dict[str, Any], rail: str) -> None:
    well = {"stop": "stop", "output_tokens": 40}
    stable = counted(_sessions(_many, 300, **well))
    others = _sessions(_many, 8, **well)
    assert _hit(counted([*others, *_sessions(_one, 12, **odd)]), stable) is None
    assert _hit(counted([*others, *_sessions(lambda n: f"odd{n}", 12, **odd)]), stable) == rail


def test_a_canary_of_one_user_alone_is_aborted_for_its_5xx() -> None:
    assert _hit(counted(_sessions(_one, 8, **BROKEN)), counted(_sessions(_many, 300))) == "5xx_burst"


def test_what_another_revision_took_before_it_failed_is_not_the_canary_s() -> None:
    taken_over = record(ttft_ms=5200, e2e_ms=5400, retries=1, elsewhere_ms=5000)
    slow = record(ttft_ms=5900, e2e_ms=6400, retries=1, elsewhere_ms=5000)
    found = counted([taken_over, slow]).counts()
    assert (found.requests, found.slo_misses) == (2, 1)


def test_an_arrival_is_counted_at_the_revision_that_was_asked_first() -> None:
    stable = counted([record(retried=True, session="s", **BROKEN), record()]).counts()
    canary = counted([record(retries=1, session="s", elsewhere_ms=10)]).counts()
    assert (stable.asked, canary.asked) == (2, 0)


def test_a_canary_whose_users_leave_before_any_limit_waits_for_a_person() -> None:
    """A client that hangs up after 300 of 500 ms is no miss: a canary that is slow for all of them had none."""
    stable = counted(_sessions(_many, 4000))
    leaving = [record(session=f"c{n}", **(LEFT if n % 10 == 0 else {})) for n in range(1000)]
    seen = judge(_evidence(counted(leaving), stable), SLOS, OPTIONS, STEP, started_at=NOW, now=after(120))
    assert seen.verdict is Verdict.INCONCLUSIVE
    assert seen.doubt == "users leave the canary before any limit has passed: 100 of 1000, 0 of 4000 of stable's"


def test_one_user_who_leaves_always_is_no_doubt() -> None:
    stable = counted(_sessions(_many, 4000))
    leaving = [*_sessions(_one, 100, **LEFT), *_sessions(lambda n: f"c{n}", 900)]
    seen = judge(_evidence(counted(leaving), stable), SLOS, OPTIONS, STEP, started_at=NOW, now=after(120))
    assert (seen.verdict, seen.doubt) == (Verdict.PASS, None)


def _long(name: str, sessions: int, **later: Any) -> list[GatewayRecord]:
    return [
        record(session=f"{name}{s}", **(later if turn > 10 and s % 2 == 0 else {}))
        for s in range(sessions)
        for turn in range(1, 16)
    ]


def test_misses_behind_the_tenth_request_of_sessions_hold_a_step() -> None:
    stable = counted(_long("s", 400))
    assert verdict(counted(_long("c", 100)), stable) is Verdict.PASS
    late = _evidence(counted(_long("c", 100, **LATE)), stable)
    seen = judge(late, SLOS, OPTIONS, STEP, started_at=NOW, now=after(120))
    assert seen.verdict is Verdict.INCONCLUSIVE
    assert "behind the tenth request" in str(seen.doubt)
