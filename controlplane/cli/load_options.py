"""A profile and the options of `fleetune load` as one load test, whether it is run here or written as a plan."""

from __future__ import annotations

import os

from controlplane.domain.errors import InvalidInput
from loadtests.loadtest import LoadTest
from loadtests.send.profiles import Profile
from loadtests.send.tokenized import words_for


def load_test_of(
    profile: Profile, target: str, model: str, *, tokenizer: str | None, key_variable: str | None, time_lapse: float
) -> LoadTest:
    """Return the load test. Raises InvalidInput for a variable that is not set or a tokenizer that cannot be used."""
    return LoadTest(
        workload=profile.workload,
        rate_rps=profile.rate_rps,
        url=target,
        model=model,
        duration_s=profile.duration_s,
        warmup_s=profile.warmup_s,
        time_lapse=time_lapse,
        seed=profile.seed,
        slos=profile.slos,
        api_key=_key(key_variable),
        api=profile.api,
        timeouts=profile.timeouts,
        words=words_for(tokenizer, profile.api).words,
        force_length=profile.force_length,
        extra_body=dict(profile.extra_body),
        concurrency=profile.concurrency,
    )


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if variable not in os.environ:
        raise InvalidInput(f"environment variable {variable} is not set")
    return os.environ[variable]
