"""A study whose engines no profile fits: its baseline's levels calibrate the twin, and the search goes on with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from controlplane.cli.tables.report_html import study_page
from controlplane.domain.studies.calibration import Misfit, Rival
from controlplane.domain.studies.study import Study, StudyState, Trial, TrialKind
from controlplane.services.studies.calibrate_here import calibrated, misfits, seen_loads, stand_of, twin_note
from controlplane.services.studies.forecast import forecaster
from controlplane.services.studies.search import open_search
from tests.unit.studies.study_world import World, pending, service_spec, trials
from tests.unit.tuner.twin.builders import public_models
from tuner.search.candidates import Candidates

UNHEARD_OF = {"type": "unheard-of", "count": 4, "price_usd_per_gpu_hour": 4}
FEW = {
    "space": {"quantization": {"choices": [None, "fp8"]}, "max-num-seqs": {"choices": [64, 256]}},
    "levels": {"min_s": 10, "max_s": 30, "warmup_s": 2, "precision": 0.1},
    "budget": {"engine_starts": 4},
    "confirm_fleet": False,
}


class Ran(NamedTuple):
    study: Study
    trials: list[Trial]
    actions: list[str]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A study on a GPU that nobody heard of and that is an H200."""
    world = World(tmp_path_factory.mktemp("here"), spec=service_spec(gpus=UNHEARD_OF, tuning=FEW), noise=0.02)
    pending(world)
    study = world.runner().run_next()
    assert study is not None
    return Ran(study, trials(world), [event.action for event in world.store.list_events()])


def test_the_first_start_calibrates_what_the_rest_of_the_search_goes_by(ran: Ran) -> None:
    found = ran.study.calibration
    assert ran.study.state is StudyState.DONE
    assert found is not None
    assert found.misfits == (Misfit.GPU,)
    assert found.error_after < 0.06 < found.error_before
    assert found.factors.memory < 0.85  # an H200 reads faster than the H100 that stands in
    assert not ran.trials[0].predicted
    searched = [t for t in ran.trials if t.kind is TrialKind.SEARCH and t.capacity is not None]
    assert searched
    for trial in searched:
        assert trial.capacity is not None
        assert trial.predicted["capacity_rps"] == pytest.approx(trial.capacity.rps, rel=0.15)


def test_it_is_said_in_the_plan_the_events_and_the_report(ran: Ran) -> None:
    assert ran.study.calibration is not None
    assert ran.study.plan is not None
    assert "calibrated here by the" in (ran.study.plan.note or "")
    assert "study.calibrated" in ran.actions
    assert "calibrated here by the" in study_page(ran.study, ran.trials)
    assert "until what the baseline measures calibrates it" in (twin_note(ran.study.spec) or "")


def test_a_calibration_says_what_was_off_and_what_else_explains_it(ran: Ran) -> None:
    found = ran.study.calibration
    assert found is not None
    alone = found.evolve(misfits=(Misfit.CONTRADICTED,), error_before=0.42, error_after=0.031, levels=3, rivals=())
    rival = Rival(factors=found.factors, odds=0.5)
    assert alone.summary == (
        "the twin (simulated engine) was calibrated here by the 3 load levels of trial 0, the baseline, because they "
        "measured other latencies than it had forecast: the latencies it gives for them were "
        "off by 42% in the median before, 3.1% now"
    )
    assert "another twin explains them nearly as well" in alone.evolve(rivals=(rival,)).summary
    assert "2 other twins explain" in alone.evolve(rivals=(rival, rival)).summary


def test_what_else_explains_the_baseline_is_forecast_beside_it(ran: Ran) -> None:
    assert ran.study.calibration is not None
    slow = Rival(factors=ran.study.calibration.factors.evolve(seat_us=400.0), odds=0.25)
    study = ran.study.evolve(calibration=ran.study.calibration.evolve(rivals=(slow,)))
    among = open_search(study, storage_url=None).among
    (first, likely), (other, less) = among.forecasts
    assert (likely, less) == (0.8, 0.2)
    by_seats = {value: np.median(other[rows] - first[rows]) for value, rows in rows_by(among, "max-num-seqs").items()}
    assert by_seats[256] > by_seats[64] > 0


def rows_by(among: Candidates, flag: str) -> dict[object, list[int]]:
    values = {point[flag] for point in among.points}
    return {value: [row for row, point in enumerate(among.points) if point[flag] == value] for value in values}


def test_a_profile_that_fits_is_left_as_it_is_and_one_that_does_not_is_calibrated(ran: Ran) -> None:
    fitting, slower = (ran.study.spec.evolve(gpus={**UNHEARD_OF, "type": gpu}) for gpu in ("H200", "H100 PCIe"))
    assert misfits(fitting) == misfits(slower) == ()
    assert calibrated(fitting, ran.trials) is None
    found = calibrated(slower, ran.trials)
    assert found is not None
    assert found.misfits == (Misfit.CONTRADICTED,)
    assert found.error_after < found.error_before / 2


def test_a_model_outside_the_table_is_calibrated_by_its_sizes(ran: Ran, tmp_path: Path) -> None:
    config = public_models()["Llama-3.1-8B"]["config"] | {"architectures": ["NobodyKnowsForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = service_spec(model={"name": "mine", "path": str(tmp_path)})
    assert misfits(spec) == (Misfit.MODEL,)
    assert forecaster(spec) is None
    found = calibrated(spec, ran.trials)
    assert found is not None
    capacity_of = forecaster(spec, found)
    assert capacity_of is not None
    baseline = ran.trials[0]
    assert baseline.capacity is not None
    assert capacity_of(baseline.config) == pytest.approx(baseline.capacity.rps, rel=0.15)


def test_without_sizes_or_levels_nothing_is_calibrated(ran: Ran) -> None:
    hub = service_spec(model={"name": "chat", "path": "some-org/unknown-model"})
    assert misfits(hub) == ()
    assert calibrated(hub, ran.trials) is None
    assert calibrated(ran.study.spec, [ran.trials[0].evolve(levels=(), capacity=None)]) is None
    assert calibrated(ran.study.spec, []) is None


def test_levels_are_seen_with_the_requests_they_had(ran: Ran) -> None:
    baseline = ran.trials[0]
    for level, seen in zip(baseline.levels[-4:], seen_loads(ran.study.spec, baseline), strict=True):
        measured = seen.requests.scheduled_s >= seen.warmup_s
        ended = seen.until_s or float("inf")
        assert (measured & (seen.requests.scheduled_s <= ended)).sum() >= level.report.completed


def test_other_precisions_and_sizes_are_less_certain_than_what_was_measured(ran: Ran) -> None:
    stand = stand_of(ran.study.spec, ran.study.calibration)
    assert stand is not None
    measured, other = ran.trials[0].config, ran.trials[0].config.with_flags({"quantization": "fp8"})
    assert stand.setup(other).profile.uncertainty > stand.setup(measured).profile.uncertainty
