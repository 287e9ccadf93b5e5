"""What a controller remembers is bounded: the tenth rollout or failure leaves no more behind than the third."""

from __future__ import annotations

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.studies.study import STUDY_LEASE_S
from tests.builders_serving import a_study
from tests.integration.controller.site import Site
from tests.remembering import grown, remembered

BUSY = 400
"""Requests a second: a rollout is over in half a minute."""
NAMES = {"._noted", "._aliased", "._versions._paths"}
"""Names of rollouts and paths of revisions that were looked at once and for all: some 100 bytes each."""


def test_rollouts_leave_nothing_behind_but_that_they_were_noted() -> None:
    site, told = Site(), []
    site.serving()
    for number in range(8):
        site.roll_out(EngineConfig(flags={"max-num-seqs": 64 + number}))
        site.passes_until(RolloutState.PROMOTED, requests=BUSY)
        site.passes(5, requests=BUSY)
        told.append(remembered(site.controller))
    assert sum(told[-1].values()) < 400
    assert not [path for path in told[-1] if "_watched[]" in path]  # tens of thousands of records, else
    assert set(grown(told[2], told[-1])) <= NAMES


def test_engines_that_fail_again_and_again_leave_nothing_behind() -> None:
    site, told = Site(), []
    site.serving()
    for _ in range(6):
        for _ in range(3):
            for engine in site.engines():
                site.fleet.crash(engine.spec.engine_id)
            site.passes(1)
        site.passes(900)
        told.append(remembered(site.controller))
    assert grown(told[2], told[-1]) == {}


def test_studies_that_are_over_leave_nothing_behind() -> None:
    site, told = Site(), []
    site.serving()
    for number in range(6):
        site.store.save_study(a_study(f"chat-{number + 1}"), 0)
        claimed = site.store.claim_study(f"w{number}", now=site.clock(), lease_s=STUDY_LEASE_S)
        assert claimed is not None
        engine = site.trial_engine(claimed.value.study_id)
        site.passes(2)
        site.fleet.stop(engine.spec.engine_id, drain_s=0)
        site.fleet.forget(engine.spec.engine_id)
        site.passes(2)
        told.append(remembered(site.controller))
    assert grown(told[0], told[-1]) == {}
