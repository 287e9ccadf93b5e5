"""A replica that cannot be reached, or keeps failing, is left alone for a while, probed, and comes back."""

from __future__ import annotations

from controlplane.gateway.breaker import FAILED, LATEST, SLOW, Breaker


def wait_s(one: Breaker) -> float:
    """Return after how many seconds from 0 it may be asked again."""
    return next(tenth / 10 for tenth in range(2000) if one.reachable(tenth / 10) and not one.ejected(tenth / 10))


def ejected() -> Breaker:
    one = Breaker()
    for _ in range(FAILED):
        one.failed(0.0, probe=False)
    return one


def test_the_backoff_after_failed_connects_doubles_up_to_ten_seconds() -> None:
    one, waits = Breaker(), []
    for _ in range(7):
        one.failed_to_connect(0.0)
        waits.append(wait_s(one))
    assert waits == [0.5, 1, 2, 4, 8, 10, 10]


def test_an_answer_after_failed_connects_brings_it_back() -> None:
    one = Breaker()
    one.failed_to_connect(0.0)
    one.connected()
    assert one.reachable(0.1)


def test_some_failures_among_many_answers_do_not_eject() -> None:
    one = Breaker()
    for number in range(100):
        if number % 3:
            one.went_well(0.0, probe=False)
        else:
            one.failed(0.0, probe=False)
    assert not one.is_open


def test_half_of_the_latest_answers_eject() -> None:
    one = Breaker()
    for _ in range(LATEST):
        one.went_well(0.0, probe=False)
    for failures in range(FAILED):
        assert one.ejections == 0, failures
        one.failed(0.0, probe=False)
    assert one.ejections == 1


def test_the_ejection_doubles_each_time_the_probe_fails() -> None:
    one, waits = ejected(), []
    for _ in range(6):
        waits.append(wait_s(one))
        probe = one.begin()
        one.failed(0.0, probe=probe)
        one.end(probe)
    assert waits == [5, 10, 20, 40, 80, 80]


def test_one_request_at_a_time_probes_it() -> None:
    one = ejected()
    assert not one.ejected(6.0)
    first = one.begin()
    assert (first, one.begin(), one.ejected(6.0)) == (True, False, True)
    one.end(first)
    assert not one.ejected(6.0)


def test_a_probe_that_goes_well_brings_it_back_with_a_clean_slate() -> None:
    one = ejected()
    probe = one.begin()
    one.went_well(0.0, probe=probe)
    one.end(probe)
    assert not one.is_open
    for _ in range(FAILED - 1):
        one.failed(9.0, probe=False)
    assert not one.is_open


def test_streams_of_before_neither_bring_it_back_nor_keep_it_away_longer() -> None:
    one = ejected()
    one.went_well(0.0, probe=False)
    assert one.ejected(4.9)
    one.failed(4.0, probe=False)
    assert not one.ejected(5.0)


def test_who_is_slow_again_and_again_is_ejected_and_a_slow_probe_keeps_it_away_longer() -> None:
    one = Breaker()
    for _ in range(LATEST):
        one.went_well(0.0, probe=False, slow=False)
    for _ in range(SLOW - 1):
        one.went_well(0.0, probe=False, slow=True)
    assert not one.is_open
    one.went_well(0.0, probe=False, slow=True)
    waits = []
    for _ in range(3):
        waits.append(wait_s(one))
        one.went_well(0.0, probe=one.begin(), slow=True)
        one.end(True)
    assert waits == [5, 10, 20]
    one.went_well(0.0, probe=one.begin(), slow=False)
    assert not one.is_open


def test_a_probe_that_nothing_can_be_compared_with_brings_it_back() -> None:
    one = Breaker()
    for _ in range(SLOW):
        one.went_well(0.0, probe=False, slow=True)
    one.went_well(0.0, probe=one.begin(), slow=None)
    assert not one.is_open
