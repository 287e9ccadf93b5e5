"""Trials give way: their priority is below that of what serves, and nothing is evicted for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.deploy.charts import EXAMPLES, named, of_example

IDS = [example.stem for example in EXAMPLES]


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_nothing_that_serves_is_evicted_for_a_trial(example: Path) -> None:
    objects = of_example(example)
    trials, serving = (named(objects, "PriorityClass", f"fleetune-{what}") for what in ("trials", "serving"))
    assert trials["preemptionPolicy"] == "Never"
    assert trials["value"] < 0 < serving["value"]  # others' pods, at 0, go before trials too


def test_a_quota_counts_trials_alone() -> None:
    quotas = [each for example in EXAMPLES for each in of_example(example) if each["kind"] == "ResourceQuota"]
    assert quotas
    for quota in quotas:
        assert list(quota["spec"]["hard"]) == ["requests.nvidia.com/gpu"]  # a server counts no limits of such resources
        (only,) = quota["spec"]["scopeSelector"]["matchExpressions"]
        assert (only["scopeName"], only["operator"], only["values"]) == ("PriorityClass", "In", ["fleetune-trials"])
