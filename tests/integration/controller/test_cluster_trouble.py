"""What a cluster refuses while a service is served: one message that says what, and serving goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, RolloutState
from tests.builders_serving import CHAT
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.writes import Writer
from tests.integration.controller.cluster_site import IMAGE, ClusterSite

QUOTA = resource_of("v1", "ResourceQuota")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ClusterSite]:
    made = ClusterSite(tmp_path)
    yield made
    made.cluster.objects.denials.clear()
    made.cluster.faults.clear()
    made.close()


def take_images(rig: ClusterSite) -> None:
    for node in rig.cluster.nodes.values():
        node.missing_images.add(IMAGE)


def give_images(rig: ClusterSite) -> None:
    for node in rig.cluster.nodes.values():
        node.missing_images.clear()


def set_quota(rig: ClusterSite) -> None:
    spec: Object = {"hard": {"requests.nvidia.com/gpu": "1"}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": spec}
    rig.cluster.objects.create(QUOTA, "default", quota, Writer(strict=True))


def lift_quota(rig: ClusterSite) -> None:
    rig.cluster.objects.delete(QUOTA, "default", "few")


def take_right(rig: ClusterSite) -> None:
    rig.cluster.faults.forbid("patch", "services")


def deny_pods(rig: ClusterSite) -> None:
    rig.cluster.objects.denials["Pod"] = 'violates PodSecurity "restricted:latest"'


def cordon(rig: ClusterSite) -> None:
    for name in rig.cluster.nodes:
        rig.cluster.change_node(name, lambda node: {**node, "spec": {**node["spec"], "unschedulable": True}})


def uncordon(rig: ClusterSite) -> None:
    for name in rig.cluster.nodes:
        rig.cluster.change_node(name, lambda node: {**node, "spec": {**node["spec"], "unschedulable": False}})


def clear(rig: ClusterSite) -> None:
    rig.cluster.objects.denials.clear()
    rig.cluster.faults.clear()


def state(rig: ClusterSite) -> RolloutState:
    return rig.site.rollout.state


def told(rig: ClusterSite) -> str:
    """Return everything that people are told now: of engines, of the pass, and in the audit."""
    waiting = [str(engine.waits_for or engine.failure_detail) for engine in rig.fleet.list()]
    audit = [event.reason for event in rig.site.store.list_events(service=CHAT, limit=50)]
    return "\n".join([*waiting, *rig.problems, *audit])


@pytest.mark.parametrize(
    ("harm", "mend", "says"),
    [
        (take_images, give_images, "ImagePullBackOff"),
        (set_quota, lift_quota, "exceeded quota: few"),
        (take_right, clear, "a Role with verb patch on services"),
        (deny_pods, clear, "violates PodSecurity"),
        (cordon, uncordon, "needs 1 GPU"),
    ],
    ids=["image", "quota", "right", "policy", "no node"],
)
def test_a_canary_that_the_cluster_refuses_is_told_and_the_stable_serves_on_until_it_may_come(
    rig: ClusterSite, harm: Callable[[ClusterSite], None], mend: Callable[[ClusterSite], None], says: str
) -> None:
    (stable,) = rig.ready()
    harm(rig)
    rig.site.roll_out(replicas=1)
    rig.passes_until(lambda: says in told(rig))
    assert state(rig) is RolloutState.PENDING
    assert [(each.spec.engine_id, each.pod) for each in rig.ready()] == [(stable.spec.engine_id, stable.pod)]
    mend(rig)
    rig.passes_until(lambda: rig.site.rollout.state in ROLLOUT_FINAL)
    assert state(rig) is RolloutState.PROMOTED, rig.site.rollout.reason
    rig.streams.end()
    assert rig.streams.cut == []


def test_a_canary_that_a_policy_denies_for_good_is_aborted_with_the_policy_s_words(rig: ClusterSite) -> None:
    rig.cluster.objects.denials["Deployment"] = "no new models on Fridays"
    rig.site.roll_out(replicas=1)
    rig.passes_until(lambda: rig.site.rollout.state in ROLLOUT_FINAL)
    assert rig.site.rollout.state is RolloutState.ABORTED
    assert "no new models on Fridays" in str(rig.site.rollout.reason)
    rig.streams.end()
    assert rig.streams.cut == []
