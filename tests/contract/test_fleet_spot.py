"""GPUs that may be taken back: what every fleet that has such keeps apart, on the fake and on processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.adapters.fleet_processes.devices import HostGpus
from controlplane.adapters.fleet_processes.fleet import FleetProcesses
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.ports.fleet import Fleet
from tests.contract.fleet_subjects import a_spec
from tests.fakes.fleet import FakeFleet

GPUS, SPOT = 4, frozenset({2, 3})


class Subject:
    """Four GPUs, two of them spot, and the world that takes some back."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.leaving: set[int] = set()
        fake = FakeFleet(gpus=GPUS, spot=SPOT)
        fake.leaving = self.leaving
        own = HostGpus(tuple(range(GPUS)), SPOT, lambda: self.leaving)
        self.fleet: Fleet = fake if kind == "fake" else FleetProcesses(folder, gpus=own)

    @property
    def free(self) -> tuple[int, int, int]:
        """All, on demand, spot."""
        fleet = self.fleet
        return fleet.free_gpus(), fleet.free_gpus(spot=False), fleet.free_gpus(spot=True)


@pytest.fixture(params=["fake", "processes"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    made = Subject(request.param, tmp_path)
    yield made
    for engine in made.fleet.list():
        made.fleet.stop(engine.spec.engine_id, drain_s=0)


def spot(engine_id: str, gpus: int = 1) -> EngineSpec:
    return a_spec(engine_id, gpus=gpus, tensor_parallel_size=gpus).evolve(spot=True)


def test_an_engine_runs_on_gpus_of_the_kind_it_asks_for(subject: Subject) -> None:
    assert subject.free == (4, 2, 2)
    assert set(subject.fleet.start(spot("s-1")).gpu_indices) <= SPOT
    assert not set(subject.fleet.start(a_spec("d-1")).gpu_indices) & SPOT
    assert subject.free == (2, 1, 1)


def test_one_kind_never_takes_the_others_gpus(subject: Subject) -> None:
    subject.fleet.start(spot("s-1", gpus=2))
    with pytest.raises(Unavailable):
        subject.fleet.start(spot("s-2"))
    with pytest.raises(InvalidInput):
        subject.fleet.start(a_spec("d-1", gpus=3, tensor_parallel_size=3))


def test_nothing_starts_on_a_gpu_that_is_under_notice(subject: Subject) -> None:
    subject.leaving |= {3}
    assert subject.free == (3, 2, 1)
    assert subject.fleet.start(spot("s-1")).gpu_indices == (2,)
    with pytest.raises(Unavailable):
        subject.fleet.start(spot("s-2"))
    subject.leaving.clear()
    assert subject.fleet.start(spot("s-2")).gpu_indices == (3,)
