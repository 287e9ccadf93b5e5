"""Recording and alert rules of services. Pure: specs in, the rule file as plain values out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from controlplane.domain.operations.burning import BURNS, Burn
from controlplane.domain.operations.known_alerts import (
    BUDGET_EXCEEDED,
    CERTIFICATE_ENDS,
    CERTIFICATE_LEFT_DAYS,
    ENGINE_DOWN,
    FLAPPING,
    GATEWAY_DOWN,
    GENERATOR_BEHIND,
    GPU_BUSY_PERCENT,
    GPU_THROTTLED,
    GPUS_BUSY,
    GPUS_BUSY_AND_QUEUED,
    JUMPED,
    JUMPED_REQUESTS,
    JUMPED_TIMES,
    JUMPED_WINDOW_S,
    KV_CACHE_FULL,
    KV_FULL_PERCENT,
    PREEMPTIONS,
    PREEMPTIONS_PER_S,
    QUEUE_GROWS,
    QUEUE_S,
    QUEUE_STEP_S,
    REPLAY_REGRESSED,
    REPLICAS_FLAP,
    ROLLOUT_HALTED,
    ROLLOUT_STUCK,
    STORE_FREE_BYTES,
    STORE_FREE_SHARE,
    STORE_FULL,
    KnownAlert,
)
from controlplane.domain.operations.minutes import error_promise
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencyMetric
from dashboards.observability.gpus import GPU_SERIES, HARMFUL_BITS
from dashboards.observability.promql import CONTROL, ENGINES, GATEWAYS, error_ratio, miss_ratio, percentile, requests

WINDOWS = ("5m", "30m", "1h", "6h")
Rule = dict[str, Any]


class Promise(NamedTuple):
    """One limit of a service: what it is called, the share that may miss, and its ratio of misses over a window."""

    service: str
    name: str
    allowed: float
    ratios: dict[str, str]


def rule_file(specs: Sequence[ServiceSpec]) -> dict[str, Any]:
    """Return the groups of one rule file for all services."""
    promises = [promise for spec in specs for promise in promises_of(spec)]
    return {
        "groups": [
            {"name": "fleetune-recording", "rules": [rule for each in promises for rule in _recorded(each)]},
            {"name": "fleetune-gpus", "rules": [{"record": name, "expr": expr} for name, expr in GPU_SERIES.items()]},
            {"name": "fleetune-slo", "rules": [rule for each in promises for rule in _burning(each)]},
            {"name": "fleetune-services", "rules": [rule for spec in specs for rule in (_jump(spec), *_budget(spec))]},
            {"name": "fleetune-fleet", "rules": list(_FLEET)},
        ]
    }


def promises_of(spec: ServiceSpec) -> list[Promise]:
    """Return what can be watched of a service's SLOs: a latency limit below every bucket cannot."""
    found = [
        Promise(spec.name, str(slo), slo.allowed_miss_ratio, ratios)
        for slo in spec.slos.latency
        if (ratios := {w: r for w in WINDOWS if (r := miss_ratio(spec.name, slo, w)) is not None})
    ]
    errors = {window: error_ratio(spec.name, window) for window in WINDOWS}
    return [*found, Promise(spec.name, error_promise(spec), spec.slos.max_error_ratio, errors)]


def _recorded(promise: Promise) -> list[Rule]:
    return [
        {"record": f"fleetune:slo_miss:ratio_rate{window}", "expr": expr, "labels": {"slo": promise.name}}
        for window, expr in promise.ratios.items()
    ]


def _burning(promise: Promise) -> list[Rule]:
    return [_burn(promise, burn) for burn in BURNS]


def _burn(promise: Promise, burn: Burn) -> Rule:
    threshold, windows = burn.threshold(promise.allowed), [_window(each) for each in (burn.long_s, burn.short_s)]
    where = f'{{service="{promise.service}",slo="{promise.name}"}}'
    over = [f"fleetune:slo_miss:ratio_rate{window}{where} > {threshold:.6g}" for window in windows]
    return {
        "alert": burn.alert,
        "expr": " and ".join(over),
        "labels": {"severity": burn.severity, "service": promise.service, "slo": promise.name},
        "annotations": {
            "summary": f"{promise.service}: {promise.name} is missed too often",
            "description": f"{{{{ $value | humanizePercentage }}}} of the requests of the last {windows[0]} missed it, "
            f"{promise.allowed:.3%} may.",
        },
    }


def _window(seconds: int) -> str:
    return f"{seconds // 3600}h" if seconds >= 3600 else f"{seconds // 60}m"


def _jump(spec: ServiceSpec) -> Rule:
    where = f'service="{spec.name}"'
    window = _window(JUMPED_WINDOW_S)
    now = percentile(LatencyMetric.TTFT, 0.99, window, where=where)
    before = percentile(LatencyMetric.TTFT, 0.99, window, where=where, offset=" offset 1h")
    asked = f"{requests(spec.name, window)} * {JUMPED_WINDOW_S} > {JUMPED_REQUESTS}"
    return _known(
        JUMPED,
        f"{now} > {JUMPED_TIMES:g} * {before} and {asked}",
        f"{spec.name}: the P99 time to first token is more than {JUMPED_TIMES:g} times that of an hour ago",
        "Now {{ $value | humanizeDuration }}. Look at the rollout page and at the queue.",
    )


def _budget(spec: ServiceSpec) -> list[Rule]:
    if spec.alerts.usd_per_day is None:
        return []
    return [
        _known(
            BUDGET_EXCEEDED,
            f'24 * fleetune_usd_per_hour{{service="{spec.name}"}} > {spec.alerts.usd_per_day:g}',
            f"{spec.name}: what runs costs more than its budget",
            f"{{{{ $value | humanize }}}} USD a day, {spec.alerts.usd_per_day:g} are declared.",
        )
    ]


def _known(alert: KnownAlert, expr: str, summary: str, description: str) -> Rule:
    return _alert(alert.name, expr, f"{alert.for_s // 60}m", alert.severity, summary, description)


def _alert(name: str, expr: str, for_: str, severity: str, summary: str, description: str) -> Rule:
    told = {"summary": summary, "description": description}
    return {"alert": name, "expr": expr, "for": for_, "labels": {"severity": severity}, "annotations": told}


_WAITING = "sum by (service) (vllm:num_requests_waiting)"
_BUSY = f"avg by (service) (fleetune:gpu:utilisation_percent) > {GPU_BUSY_PERCENT:g}"
_FLEET: tuple[Rule, ...] = (
    _known(
        ROLLOUT_HALTED,
        'fleetune_rollout{state="halted"} == 1',
        "{{ $labels.service }}: a promotion stopped half way",
        "A person must act: see `fleetune rollout list` and its reason.",
    ),
    _known(
        ROLLOUT_STUCK,
        "fleetune_rollout_stays_seconds > on (service) fleetune_rollout_patience_seconds",
        "{{ $labels.service }}: a rollout does not move on",
        "No step began or ended for {{ $value | humanizeDuration }}: no traffic, load that is not proven, or it is "
        "paused. `fleetune rollout list` says why; resume, promote or abort it.",
    ),
    _known(
        REPLAY_REGRESSED,
        "fleetune_replay_regressed == 1",
        "{{ $labels.service }}: the last replay of {{ $labels.schedule }} was worse than its baseline",
        "By more than chance and than a tenth: `fleetune replay list` shows it, `fleetune event list` what got worse.",
    ),
    _known(
        GENERATOR_BEHIND,
        "fleetune_generator_behind == 1",
        "{{ $labels.service }}: the load generator did not keep up",
        "The last load test says nothing of the service: give its host more CPU, or load with more processes.",
    ),
    _known(
        STORE_FULL,
        f"(fleetune_data_free_bytes < {STORE_FREE_BYTES}) < {STORE_FREE_SHARE:g} * fleetune_data_size_bytes",
        "the disk of the data folder is nearly full",
        "{{ $value | humanize1024 }}B are free: records, reports and the store are lost on a full disk. Make room.",
    ),
    _known(
        CERTIFICATE_ENDS,
        f"fleetune_gateway_certificate_end_seconds < time() + {86400 * CERTIFICATE_LEFT_DAYS}",
        "the certificate that the gateway at {{ $labels.instance }} shows to {{ $labels.shown_to }} ends",
        "Good until {{ $value | humanizeTimestamp }}: renew the file and its key where they lie.",
    ),
    _alert(
        "FleetuneReplicasMissing",
        "fleetune_replicas_ready < fleetune_replicas_wanted",
        "15m",
        "ticket",
        "{{ $labels.service }}: {{ $value }} replicas are ready, more are wanted",
        "They do not start, or no GPU is free: see `fleetune fleet list` and `fleetune event list`.",
    ),
    _alert(
        "FleetuneAutoscalerHolds",
        "fleetune_autoscale_held == 1",
        "10m",
        "ticket",
        "{{ $labels.service }}: the autoscaler keeps the last safe number of replicas",
        "It does not know the load or the capacity: `fleetune service scaling` says why.",
    ),
    _alert(
        "FleetuneControlPlaneDown",
        f'up{{job="{CONTROL}"}} == 0',
        "2m",
        "page",
        "the API at {{ $labels.instance }} does not answer",
        "Gateways serve on by their last table; nothing is scaled, tuned or rolled out meanwhile.",
    ),
    _known(
        QUEUE_GROWS,
        f"{_WAITING} > sum by (service) (vllm:num_requests_running)"
        f" and deriv({_WAITING}[{_window(QUEUE_S)}:{QUEUE_STEP_S}s]) > 0",
        "{{ $labels.service }}: more requests wait than run, and more every minute",
        "The offered load is above what the replicas sustain: add replicas, or shed load.",
    ),
    _known(
        PREEMPTIONS,
        f"sum by (service) (rate(vllm:num_preemptions_total[5m])) > {PREEMPTIONS_PER_S:g}",
        "{{ $labels.service }}: engines throw work away for lack of KV cache",
        "{{ $value | humanize }} preemptions a second: lower max-num-seqs, or give the cache more memory.",
    ),
    _known(
        KV_CACHE_FULL,
        f"max by (service, engine) (vllm:kv_cache_usage_perc) > {KV_FULL_PERCENT / 100:g}",
        "{{ $labels.engine }}: its KV cache is nearly full",
        "Preemptions follow. Lower max-num-seqs, add replicas, or use an fp8 KV cache.",
    ),
    _known(
        GPUS_BUSY_AND_QUEUED,
        f"{_BUSY} and on (service) {_WAITING} > 0",
        "{{ $labels.service }}: GPUs are busy and requests wait",
        "A GPU above 90 % is what is paid for; only with waiting requests does it ask for more replicas.",
    ),
    _known(
        GPUS_BUSY,
        _BUSY,
        "{{ $labels.service }}: GPUs are busy",
        "They are used well: nothing is to be done while no request waits and no limit is missed.",
    ),
    _known(
        GPU_THROTTLED,
        " or ".join(f"floor(fleetune:gpu:throttle_mask / {1 << bit}) % 2 == 1" for bit in HARMFUL_BITS),
        "{{ $labels.service }}: GPU {{ $labels.gpu }} of {{ $labels.engine }} is held back",
        "By heat, its supply or the board, not by its power limit: look at cooling and power of its host.",
    ),
    _known(
        ENGINE_DOWN,
        f'up{{job="{ENGINES}"}} == 0',
        "{{ $labels.engine }} does not answer",
        "The controller replaces a replica that failed; look at `fleetune fleet list`.",
    ),
    _known(
        GATEWAY_DOWN,
        f'up{{job="{GATEWAYS}"}} == 0',
        "the gateway at {{ $labels.instance }} does not answer",
        "Clients get nothing from it. `fleetune up` starts it again; see gateway.log.",
    ),
    _known(
        REPLICAS_FLAP,
        f"fleetune_engines_failed >= {FLAPPING}",
        "{{ $labels.service }}: replicas come and go",
        "{{ $value }} engines failed within half an hour: see `fleetune event list`.",
    ),
    _alert(
        "FleetuneNoRoutes",
        "fleetune_gateway_routing_table_version == -1",
        "1m",
        "page",
        "the gateway at {{ $labels.instance }} has no routing table",
        "The controller has not reached it, or refuses to: see controller.log.",
    ),
    _alert(
        "FleetuneRecordsLost",
        "delta(fleetune_gateway_records_dropped[10m]) > 0",
        "0m",
        "ticket",
        "the gateway at {{ $labels.instance }} loses request records",
        "Its disk is full: canaries are judged on records, so rollouts wait until it is not.",
    ),
)
