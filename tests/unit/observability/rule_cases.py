"""What Prometheus scrapes, and which alerts must then be firing."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """What Prometheus scrapes once a minute, by series, and the alerts that must then be firing."""

    series: dict[str, str]
    at: str
    firing: set[str]


def _ttft(within: int, all_: int, minutes: int = 400) -> dict[str, str]:
    bucket = 'fleetune_gateway_ttft_seconds_{}{{service="chat",revision="r"{}}}'
    return {
        bucket.format("bucket", ',le="0.5"'): f"0+{within}x{minutes}",
        bucket.format("bucket", ',le="+Inf"'): f"0+{all_}x{minutes}",
        bucket.format("count", ""): f"0+{all_}x{minutes}",
    }


def _requests(good: int, bad: int = 0, minutes: int = 400) -> dict[str, str]:
    name = 'fleetune_gateway_requests_total{{service="chat",revision="r",status="{}"}}'
    good_series = {name.format(200): f"0+{good}x{minutes}"}
    return good_series | ({name.format(503): f"0+{bad}x{minutes}"} if bad else {})


def _engine(name: str, metric: str, values: str) -> dict[str, str]:
    return {f'vllm:{metric}{{service="chat",engine="{name}",job="fleetune-engines"}}': values}


def _gpu(name: str, values: str) -> dict[str, str]:
    return {f'DCGM_FI_DEV_{name}{{service="chat",engine="e1",gpu="0",job="fleetune-engines"}}': values}


def _disk(free_gib: int, size_gib: int) -> dict[str, str]:
    return {"fleetune_data_free_bytes": f"{free_gib * 2**30}x60", "fleetune_data_size_bytes": f"{size_gib * 2**30}x60"}


def _rollout(state: str, *, stays: str, patience: str = "1800x60") -> dict[str, str]:
    of = '{service="chat"}'
    here = {f'fleetune_rollout{{service="chat",state="{state}"}}': "1x60"}
    return here | {
        f"fleetune_rollout_stays_seconds{of}": stays,
        f"fleetune_rollout_patience_seconds{of}": patience,
    }


def _certificate(days: int) -> dict[str, str]:
    """Times of a test begin with those of Unix."""
    return {'fleetune_gateway_certificate_end_seconds{shown_to="clients"}': f"{86400 * days}x60"}


_UP = 'up{job="fleetune-engines",service="chat",engine="%s"}'
CASES = {
    "all is well": Case(_ttft(99, 100) | _requests(100) | _engine("e1", "kv_cache_usage_perc", "0.5x400"), "6h", set()),
    "a limit is missed by nearly all": Case(
        _ttft(10, 100) | _requests(100), "6h", {"FleetuneErrorBudgetBurnsFast", "FleetuneErrorBudgetBurnsSlowly"}
    ),
    "a third more misses than the slow burn allows": Case(
        _ttft(60, 100) | _requests(100), "6h", {"FleetuneErrorBudgetBurnsSlowly"}
    ),
    "one answer in twenty is a 5xx": Case(
        _ttft(99, 100) | _requests(95, 5), "6h", {"FleetuneErrorBudgetBurnsFast", "FleetuneErrorBudgetBurnsSlowly"}
    ),
    "the queue grows": Case(
        _engine("e1", "num_requests_waiting", "0+10x60") | _engine("e1", "num_requests_running", "5x60"),
        "30m",
        {"FleetuneQueueGrows"},
    ),
    "a long queue shrinks": Case(
        _engine("e1", "num_requests_waiting", "900-10x60") | _engine("e1", "num_requests_running", "5x60"),
        "30m",
        set(),
    ),
    "engines preempt": Case(_engine("e1", "num_preemptions_total", "0+60x60"), "30m", {"FleetunePreemptions"}),
    "engines hardly preempt": Case(_engine("e1", "num_preemptions_total", "0+1x60"), "30m", set()),
    "the cache is full": Case(_engine("e1", "kv_cache_usage_perc", "0.99x60"), "30m", {"FleetuneKvCacheFull"}),
    "GPUs are busy and requests wait": Case(
        _gpu("GPU_UTIL", "97x60")
        | _engine("e1", "num_requests_waiting", "3x60")
        | _engine("e1", "num_requests_running", "5x60"),
        "30m",
        {"FleetuneGpusBusyAndQueued", "FleetuneGpusBusy"},
    ),
    "GPUs are busy and nothing waits": Case(
        _gpu("GPU_UTIL", "97x60") | _engine("e1", "num_requests_waiting", "0x60"), "30m", {"FleetuneGpusBusy"}
    ),
    "GPUs of a pod are busy and requests wait, as a DCGM exporter tells it": Case(
        {'DCGM_FI_DEV_GPU_UTIL{gpu="0",pod="chat-0",Hostname="n1",job="dcgm"}': "97x60"}
        | {'up{job="fleetune-engines",service="chat",engine="e1",pod="chat-0"}': "1x60"}
        | {'up{job="fleetune-engines",service="other",engine="e2",pod="other-0"}': "1x60"}
        | _engine("e1", "num_requests_waiting", "3x60")
        | _engine("e1", "num_requests_running", "5x60"),
        "30m",
        {"FleetuneGpusBusyAndQueued", "FleetuneGpusBusy"},
    ),
    "another service's requests wait": Case(
        {'DCGM_FI_DEV_GPU_UTIL{service="other",engine="e9",gpu="0"}': "97x60"}
        | _engine("e1", "num_requests_waiting", "3x60")
        | _engine("e1", "num_requests_running", "5x60"),
        "30m",
        {"FleetuneGpusBusy"},
    ),
    "GPUs were busy and requests waited for four minutes": Case(
        _gpu("GPU_UTIL", "97x4 40x60")
        | _engine("e1", "num_requests_waiting", "3x60")
        | _engine("e1", "num_requests_running", "5x60"),
        "6m",
        set(),
    ),
    "a GPU is too hot": Case(_gpu("CLOCKS_EVENT_REASONS", f"{0x40 + 0x4}x60"), "30m", {"FleetuneGpuThrottled"}),
    "a GPU is too hot, by the older name": Case(
        _gpu("CLOCK_THROTTLE_REASONS", f"{0x20}x60"), "30m", {"FleetuneGpuThrottled"}
    ),
    "a GPU is at its power limit": Case(_gpu("CLOCKS_EVENT_REASONS", f"{0x4}x60"), "30m", set()),
    "a GPU is idle": Case(_gpu("CLOCKS_EVENT_REASONS", "1x60"), "30m", set()),
    "an engine is gone": Case({_UP % "e1": "1x20 0x40", _UP % "e2": "1x60"}, "30m", {"FleetuneEngineDown"}),
    "replicas come and go": Case(
        {'fleetune_engines_failed{service="chat"}': "0x10 1x5 2x5 3x40"}, "30m", {"FleetuneReplicasFlap"}
    ),
    "two engines failed": Case({'fleetune_engines_failed{service="chat"}': "0x10 2x50"}, "30m", set()),
    "a rollout sent three replicas away": Case(
        {_UP % "e1": "1x60", _UP % "e2": "1x3 stale", _UP % "e3": "1x6 stale", _UP % "e4": "1x9 stale"}, "20m", set()
    ),
    "a gateway is gone": Case(
        {'up{job="fleetune-gateways",instance="gw:8000"}': "0x60"}, "30m", {"FleetuneGatewayDown"}
    ),
    "a gateway has no table": Case(
        {'fleetune_gateway_routing_table_version{instance="gw:8000"}': "-1x60"}, "30m", {"FleetuneNoRoutes"}
    ),
    "a gateway has its table": Case(
        {'fleetune_gateway_routing_table_version{instance="gw:8000"}': "7x60"}, "30m", set()
    ),
    "records are lost": Case(
        {'fleetune_gateway_records_dropped{instance="gw:8000"}': "0x20 0+9x40"}, "30m", {"FleetuneRecordsLost"}
    ),
    "a rollout is halted": Case(
        {'fleetune_rollout{service="chat",state="halted"}': "0x20 1x40"}, "30m", {"FleetuneRolloutHalted"}
    ),
    "a rollout goes on": Case(
        {'fleetune_rollout{service="chat",state="halted"}': "0x60"}
        | {'fleetune_rollout{service="chat",state="progressing"}': "1x60"},
        "30m",
        set(),
    ),
    "a rollout is paused, and nobody looks": Case(_rollout("paused", stays="0+60x60"), "40m", {"FleetuneRolloutStuck"}),
    "a rollout has no traffic to be judged by": Case(
        _rollout("progressing", stays="0+60x60"), "40m", {"FleetuneRolloutStuck"}
    ),
    "a rollout's step may take an hour": Case(
        _rollout("progressing", stays="0+60x80", patience="3600x80"), "50m", set()
    ),
    "a rollout moves on within its time": Case(_rollout("progressing", stays="0+60x25 0+60x25"), "45m", set()),
    "a stuck rollout was aborted": Case(
        _rollout("paused", stays="0+60x35 stale", patience="1800x35 stale"), "45m", set()
    ),
    "a replay was worse than its baseline": Case(
        {'fleetune_replay_regressed{service="chat",schedule="nightly"}': "0x20 1x40"},
        "30m",
        {"FleetuneReplayRegressed"},
    ),
    "a replay was as good as its baseline": Case(
        {'fleetune_replay_regressed{service="chat",schedule="nightly"}': "1x10 0x9 stale"}, "30m", set()
    ),
    "the generator does not keep up": Case(
        {'fleetune_generator_behind{service="chat"}': "0x20 1x40"}, "30m", {"FleetuneGeneratorBehind"}
    ),
    "the generator keeps up": Case({'fleetune_generator_behind{service="chat"}': "0x60"}, "30m", set()),
    "the disk is nearly full": Case(_disk(free_gib=5, size_gib=100), "30m", {"FleetuneStoreFull"}),
    "a small disk has room": Case(_disk(free_gib=5, size_gib=40), "30m", set()),
    "a twentieth of a large disk is room": Case(_disk(free_gib=50, size_gib=1000), "30m", set()),
    "a disk is told to be free by nobody": Case({"fleetune_data_size_bytes": "100x60"}, "30m", set()),
    "a certificate ends in a week": Case(_certificate(days=7), "30m", {"FleetuneCertificateEnds"}),
    "a certificate has ended": Case(_certificate(days=0), "30m", {"FleetuneCertificateEnds"}),
    "a certificate is good for a month": Case(_certificate(days=30), "30m", set()),
    "a replica does not come": Case(
        {'fleetune_replicas_wanted{service="chat"}': "3x60", 'fleetune_replicas_ready{service="chat"}': "2x60"},
        "30m",
        {"FleetuneReplicasMissing"},
    ),
    "a replica comes late": Case(
        {'fleetune_replicas_wanted{service="chat"}': "3x60", 'fleetune_replicas_ready{service="chat"}': "2x10 3x50"},
        "14m",
        set(),
    ),
    "the autoscaler holds": Case(
        {'fleetune_autoscale_held{service="chat"}': "1x60"}, "30m", {"FleetuneAutoscalerHolds"}
    ),
    "the control plane is gone": Case(
        {'up{job="fleetune-control",instance="api:8700"}': "0x60"}, "30m", {"FleetuneControlPlaneDown"}
    ),
    "a service costs more than its budget": Case(
        {'fleetune_usd_per_hour{service="chat"}': "5x60"}, "30m", {"FleetuneBudgetExceeded"}
    ),
    "a service keeps to its budget": Case({'fleetune_usd_per_hour{service="chat"}': "4x60"}, "30m", set()),
    "the P99 jumped": Case(
        {
            'fleetune_gateway_ttft_seconds_bucket{service="chat",revision="r",le="0.1"}': "0+100x90 9000+0x60",
            'fleetune_gateway_ttft_seconds_bucket{service="chat",revision="r",le="0.5"}': "0+100x150",
            'fleetune_gateway_ttft_seconds_bucket{service="chat",revision="r",le="+Inf"}': "0+100x150",
        }
        | _requests(100),
        "2h",
        {"FleetuneP99Jumped"},
    ),
}
