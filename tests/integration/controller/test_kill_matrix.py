"""Whatever dies at whatever step of a rollout on a cluster: the right end, nothing left, no stream cut elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import Unavailable
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from tests.integration.controller.cluster_site import ClusterSite

OUTAGE_S = 10.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ClusterSite]:
    made = ClusterSite(tmp_path)
    yield made
    made.close()


def kill_controller(rig: ClusterSite, boundary: int) -> None:
    """Between two passes, and within one: another call at every boundary."""
    rig.restart()
    rig.kill_within_a_pass(at=2 * boundary)


def kill_gateway(rig: ClusterSite, boundary: int) -> None:
    """One of two is gone for two passes, and comes back as a new pod with no table: the next pass gives it one."""
    rig.site.router.down.add("gw-2")
    rig.one_pass()
    rig.one_pass()
    rig.site.router.down.discard("gw-2")
    rig.site.router.tables["gw-2"] = None
    rig.one_pass()  # not only with the next table
    assert rig.site.router.tables["gw-2"] == rig.site.router.tables["gw-1"]


def kill_worker(rig: ClusterSite, boundary: int) -> None:
    """A worker died with its trial's engine running: nobody looks after that."""
    like = rig.ready()[0].spec
    rig.fleet.start(like.evolve(engine_id=EngineId(f"trial-{boundary}"), owner=f"trial/lost/{boundary}"))


def kill_stable(rig: ClusterSite, boundary: int) -> None:
    found = rig.ready(rig.site.service.stable)
    for engine in found[:1]:
        kill(rig, engine)


def kill(rig: ClusterSite, engine: Engine) -> None:
    """Kill an engine's process. Its pod begins another, which is no life of this engine: it must be over."""
    rig.killed.add(engine.spec.engine_id)
    node = rig.cluster.nodes[str(engine.node)]
    node.life(str(engine.pod)).kill()
    rig.passes_until(lambda: engine.spec.engine_id not in rig.alive())


def lose_api_server(rig: ClusterSite, boundary: int) -> None:
    rig.cluster.server.is_out = True
    for _ in range(int(OUTAGE_S / 0.5) + 2):
        rig.one_pass()
    rig.passes_until(lambda: not is_seen(rig))  # what is known counts as old after a while
    rig.cluster.server.is_out = False
    rig.passes_until(lambda: is_seen(rig))


def is_seen(rig: ClusterSite) -> bool:
    try:
        return bool(rig.fleet.list())
    except Unavailable:
        return False


def drop_watches(rig: ClusterSite, boundary: int) -> None:
    """And the server forgets what happened meanwhile: 410."""
    rig.cluster.faults.drop_watches()
    rig.cluster.objects.compact()


def lose_node(rig: ClusterSite, boundary: int) -> None:
    """The node with the oldest ready engine goes for good; the cluster gets another."""
    rig.add_node()
    for engine in rig.ready()[:1]:
        node = str(engine.node)
        rig.killed |= {each.spec.engine_id for each in rig.fleet.list() if each.node == node}
        rig.cluster.lose_node(node)


@pytest.mark.parametrize(
    "harm",
    [kill_controller, kill_gateway, kill_worker, kill_stable, lose_api_server, drop_watches, lose_node],
)
def test_what_dies_at_every_boundary_of_a_rollout_keeps_it_from_no_good_end(rig: ClusterSite, harm) -> None:  # type: ignore[no-untyped-def]
    boundaries: list[int] = []

    def at_boundary(number: int) -> None:
        boundaries.append(number)
        harm(rig, number)

    rollout = rig.roll_out(at_boundary)
    assert rollout.state is RolloutState.PROMOTED, rollout.reason
    assert len(boundaries) >= 4
    assert_clean(rig, rollout, rollout.canary)


def test_a_canary_whose_pod_is_killed_is_aborted_and_the_stable_serves_on(rig: ClusterSite) -> None:
    def at_boundary(number: int) -> None:
        if rig.site.rollout.state is RolloutState.PROGRESSING and not rig.killed:
            canary = f"/{rig.site.rollout.canary}"
            kill(rig, next(each for each in rig.fleet.list() if str(each.spec.owner).endswith(canary)))

    rollout = rig.roll_out(at_boundary)
    assert rollout.state is RolloutState.ABORTED
    assert "exited" in str(rollout.reason)
    assert_clean(rig, rollout, rollout.stable)


def assert_clean(rig: ClusterSite, rollout: Rollout, stable: str | None) -> None:
    """One revision with one replica is left, and whoever failed, or whose stream was cut, was killed."""
    once = {"Deployment": 1, "Service": 1, "PodDisruptionBudget": 1, "Pod": 1}
    rig.passes_until(lambda: rig.left() == once and len(rig.ready(stable)) == 1)
    assert rig.site.service.stable == stable
    assert rig.site.weights == {stable: 100}
    rig.one_pass()
    rig.streams.end()
    assert rig.streams.whole > 0
    assert set(rig.streams.cut) <= rig.killed
    assert rig.failed <= rig.killed  # who is sent away stops; it does not fail, whoever looks at it next
