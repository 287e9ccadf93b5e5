"""The alerts that the built-in watch and the Prometheus rules both raise: names, thresholds, patience. Pure.

Each is found in two ways, by our own numbers and by PromQL; what it is found beyond is said here, once.
"""

from __future__ import annotations

from typing import NamedTuple

from controlplane.domain.operations.burning import BURNS


class KnownAlert(NamedTuple):
    """An alert once it was so for `for_s` seconds without a gap."""

    name: str
    severity: str
    for_s: int


JUMPED = KnownAlert("FleetuneP99Jumped", "ticket", 300)
JUMPED_TIMES, JUMPED_REQUESTS, JUMPED_WINDOW_S = 2.0, 100, 600
"""So many times the P99 of an hour ago, of more than so many requests within the window."""

QUEUE_GROWS = KnownAlert("FleetuneQueueGrows", "page", 120)
QUEUE_S, QUEUE_STEP_S = 300, 30
"""More wait than run, and the slope over so long, looked at in such steps, points up."""

KV_CACHE_FULL = KnownAlert("FleetuneKvCacheFull", "ticket", 300)
KV_FULL_PERCENT = 95.0

GPUS_BUSY = KnownAlert("FleetuneGpusBusy", "info", 300)
GPUS_BUSY_AND_QUEUED = KnownAlert("FleetuneGpusBusyAndQueued", "page", 300)
GPU_BUSY_PERCENT = 90.0
"""Mean of a service's GPUs. Busy alone is what is paid for, and told; while requests wait too a replica is missing."""

PREEMPTIONS = KnownAlert("FleetunePreemptions", "ticket", 300)
PREEMPTIONS_PER_S = 0.1

GPU_THROTTLED = KnownAlert("FleetuneGpuThrottled", "ticket", 300)

ENGINE_DOWN = KnownAlert("FleetuneEngineDown", "ticket", 60)
GATEWAY_DOWN = KnownAlert("FleetuneGatewayDown", "page", 60)

REPLICAS_FLAP = KnownAlert("FleetuneReplicasFlap", "ticket", 0)
FLAPPING, FAILED_WITHIN_S = 3, 1800
"""At least so many engines that served within so long are not there any more."""

ROLLOUT_HALTED = KnownAlert("FleetuneRolloutHalted", "page", 0)
ROLLOUT_STUCK = KnownAlert("FleetuneRolloutStuck", "ticket", 60)
"""Not halted, but no step began or ended for `rollout.tell_after_s`, or for longer where its step may take longer."""

REPLAY_REGRESSED = KnownAlert("FleetuneReplayRegressed", "ticket", 0)

GENERATOR_BEHIND = KnownAlert("FleetuneGeneratorBehind", "ticket", 0)

STORE_FULL = KnownAlert("FleetuneStoreFull", "page", 300)
STORE_FREE_SHARE, STORE_FREE_BYTES = 0.1, 20 * 2**30
"""Less than both is free beside the data: a tenth of a large disk is not little, nor are 5 GiB of a small one."""

CERTIFICATE_ENDS = KnownAlert("FleetuneCertificateEnds", "ticket", 300)
CERTIFICATE_LEFT_DAYS = 14

BUDGET_EXCEEDED = KnownAlert("FleetuneBudgetExceeded", "ticket", 900)

OF_PROMETHEUS = (
    "FleetuneAutoscalerHolds",
    "FleetuneControlPlaneDown",
    "FleetuneNoRoutes",
    "FleetuneRecordsLost",
    "FleetuneReplicasMissing",
)
"""Raised by the Prometheus rules alone."""
ALL_NAMES = frozenset(
    {
        *OF_PROMETHEUS,
        *(each.name for each in tuple(globals().values()) if isinstance(each, KnownAlert)),
        *(each.alert for each in BURNS),
    }
)
"""Every alert of ours; others are their owner's, and begin otherwise."""
