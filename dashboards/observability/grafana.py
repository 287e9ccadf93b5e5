"""Grafana dashboards of what serves, changes and costs, built with Grafana's own foundation SDK. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencyMetric
from dashboards.observability.gpus import HARMFUL_BITS
from dashboards.observability.promql import percentile, requests
from dashboards.observability.rules import promises_of


class Chart(NamedTuple):
    """One panel: its title, the unit Grafana formats with, and per legend its expression."""

    title: str
    unit: str
    queries: dict[str, str]


class Board(NamedTuple):
    uid: str
    title: str
    rows: dict[str, list[Chart]]


def boards(specs: Sequence[ServiceSpec]) -> list[Board]:
    """Return what the dashboards show."""
    return [_slo(specs), _GATEWAY, _ENGINES, _GPUS, _CONTROL, _ROLLOUT, _STUDY, _cost(specs)]


def as_json(board: Board) -> str:
    """Return one dashboard as Grafana imports it, the same text for the same board."""
    built = Dashboard(board.title).uid(board.uid).tags(["fleetune"]).refresh("30s").time("now-6h", "now")
    for row, charts in board.rows.items():
        built = built.with_row(Row(row))
        for chart in charts:
            built = built.with_panel(_panel(chart))
    return JSONEncoder(sort_keys=True, indent=1).encode(built.build()) + "\n"


def _panel(chart: Chart) -> Panel:
    panel = Panel().title(chart.title).unit(chart.unit)
    for place, (legend, expr) in enumerate(chart.queries.items()):
        panel = panel.with_target(Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + place)))
    return panel


def _slo(specs: Sequence[ServiceSpec]) -> Board:
    return Board("fleetune-slo", "Fleetune: SLOs", {spec.name: _promised(spec) for spec in specs})


def _promised(spec: ServiceSpec) -> list[Chart]:
    promises = promises_of(spec)
    misses = {
        each.name: f'fleetune:slo_miss:ratio_rate5m{{service="{spec.name}",slo="{each.name}"}}' for each in promises
    }
    budget = {
        each.name: f'1 - fleetune:slo_miss:ratio_rate6h{{service="{spec.name}",slo="{each.name}"}} / {each.allowed:.6g}'
        for each in promises
        if each.allowed > 0
    }
    return [
        Chart("Share of requests beyond each limit, 5 min", "percentunit", misses),
        Chart("Error budget left, 6 h", "percentunit", budget),
        Chart("Requests per second", "reqps", {spec.name: requests(spec.name, "5m")}),
    ]


def _cost(specs: Sequence[ServiceSpec]) -> Board:
    return Board("fleetune-cost", "Fleetune: cost", {spec.name: _paid(spec) for spec in specs})


def _paid(spec: ServiceSpec) -> list[Chart]:
    """Money per token is that of GPUs held now over tokens of engine time, as `fleetune service cost` has it."""
    where, name = f'{{service="{spec.name}"}}', spec.name
    per_s = [f"sum by (service) (rate(vllm:{each}_tokens_total{where}[5m]))" for each in ("prompt", "generation")]
    tokens = f"({per_s[0]} + {per_s[1]}) / {spec.engine.time_lapse:g}"
    day = {"what runs": f"24 * fleetune_usd_per_hour{where}"}
    if spec.alerts.usd_per_day is not None:
        day |= {"budget": f"{spec.alerts.usd_per_day:g} + 0 * fleetune_usd_per_hour{where}"}
    return [
        Chart("USD per hour", "currencyUSD", {name: f"fleetune_usd_per_hour{where}"}),
        Chart("USD per day", "currencyUSD", day),
        Chart(
            "USD per million tokens, prompt and output",
            "currencyUSD",
            {name: f"1e6 * max by (service) (fleetune_usd_per_hour{where}) / (3600 * ({tokens} > 0))"},
        ),
        Chart("Saved per hour since the promotion", "currencyUSD", {name: f"fleetune_saved_usd_per_hour{where}"}),
        Chart("Replicas paid for", "short", {name: f"fleetune_replicas_ready{where}"}),
    ]


_BY = "service, revision"
_REVISION = "{{service}} {{revision}}"
_ASKED = f"sum by ({_BY}) (rate(fleetune_gateway_requests_total[5m]))"
_FAILED = f'sum by ({_BY}) (rate(fleetune_gateway_requests_total{{status=~"5.."}}[5m]))'
_ROLLOUT = Board(
    "fleetune-rollout",
    "Fleetune: rollouts",
    {
        "Under way": [
            Chart("State", "short", {"{{service}} {{state}}": "fleetune_rollout == 1"}),
            Chart("Step", "short", {"{{service}}": "fleetune_rollout_step"}),
            Chart("Since it was started", "s", {"{{service}}": "fleetune_rollout_age_seconds"}),
            Chart("Weight", "percent", {_REVISION: f"max by ({_BY}) (fleetune_gateway_weight_percent)"}),
        ],
        "Canary beside stable": [
            Chart("Requests per second", "reqps", {_REVISION: _ASKED}),
            Chart("Answers of 5xx", "percentunit", {_REVISION: f"({_FAILED} or 0 * {_ASKED}) / ({_ASKED} > 0)"}),
            Chart("P99 TTFT", "s", {_REVISION: percentile(LatencyMetric.TTFT, 0.99, "5m", by=_BY)}),
            Chart("P99 TPOT", "s", {_REVISION: percentile(LatencyMetric.TPOT, 0.99, "5m", by=_BY)}),
            Chart("In flight", "short", {"{{revision}}": "sum by (revision) (fleetune_gateway_in_flight)"}),
        ],
    },
)
_STUDY = Board(
    "fleetune-study",
    "Fleetune: studies and replays",
    {
        "Studies": [
            Chart("Studies", "short", {"{{state}}": "fleetune_studies"}),
            Chart("GPUs held", "short", {"{{by}}": "fleetune_gpus_held", "free": "fleetune_gpus_free"}),
            Chart("GPU-hours of the newest study", "short", {"{{service}}": "fleetune_study_gpu_hours"}),
            Chart("Recommended cost over its baseline's", "percentunit", {"{{service}}": "fleetune_study_cost_ratio"}),
        ],
        "Load tests": [
            Chart("Worse than the baseline", "short", {"{{service}} {{schedule}}": "fleetune_replay_regressed"}),
            Chart("The generator was behind", "short", {"{{service}}": "fleetune_generator_behind"}),
            Chart("P99 lag of the generator", "s", {"{{service}}": "fleetune_generator_lag_seconds"}),
        ],
        "Kept": [Chart("Free where the data folder lies", "bytes", {"free": "fleetune_data_free_bytes"})],
    },
)
_GATEWAY = Board(
    "fleetune-gateway",
    "Fleetune: gateway",
    {
        "Traffic": [
            Chart(
                "Requests per second, by status",
                "reqps",
                {"{{service}} {{status}}": "sum by (service, status) (rate(fleetune_gateway_requests_total[5m]))"},
            ),
            Chart(
                "Output tokens per second",
                "short",
                {"{{revision}}": "sum by (revision) (rate(fleetune_gateway_output_tokens_total[5m]))"},
            ),
            Chart("In flight", "short", {"{{engine}}": "sum by (engine) (fleetune_gateway_in_flight)"}),
            Chart(
                "Weight",
                "percent",
                {"{{service}} {{revision}}": "max by (service, revision) (fleetune_gateway_weight_percent)"},
            ),
        ],
        "Latency, stable beside canary": [
            Chart(
                f"{metric.value.removesuffix('_ms').upper()}",
                "s",
                {f"P{of * 100:g} {{{{revision}}}}": percentile(metric, of, "5m", by=_BY) for of in (0.5, 0.95, 0.99)},
            )
            for metric in LatencyMetric
        ],
    },
)
_CONTROL = Board(
    "fleetune-control",
    "Fleetune: control plane",
    {
        "Fleet": [
            Chart(
                "Replicas",
                "short",
                {"{{service}} wanted": "fleetune_replicas_wanted", "{{service}} ready": "fleetune_replicas_ready"},
            ),
            Chart("Free GPUs", "short", {"free": "fleetune_gpus_free"}),
            Chart("The autoscaler holds", "short", {"{{service}}": "fleetune_autoscale_held"}),
            Chart("Cost per hour", "currencyUSD", {"{{service}}": "fleetune_usd_per_hour"}),
        ],
        "Changes": [
            Chart("Rollouts under way", "short", {"{{service}} {{state}}": "fleetune_rollout"}),
            Chart("Studies", "short", {"{{state}}": "fleetune_studies"}),
        ],
    },
)
_GPU = "{{service}} {{engine}} {{gpu}}"
_HELD_BACK = " + ".join(f"floor(fleetune:gpu:throttle_mask / {1 << bit}) % 2" for bit in HARMFUL_BITS)
_GPUS = Board(
    "fleetune-gpus",
    "Fleetune: GPUs",
    {
        "Use": [
            Chart("Busy", "percent", {_GPU: "fleetune:gpu:utilisation_percent"}),
            Chart("Memory used", "percentunit", {_GPU: "fleetune:gpu:memory_ratio"}),
            Chart("Memory used, MiB", "short", {_GPU: "fleetune:gpu:memory_used_mib"}),
            Chart(
                "Busy beside waiting requests",
                "short",
                {
                    "{{service}} busy %": "avg by (service) (fleetune:gpu:utilisation_percent)",
                    "{{service}} waiting": "sum by (service) (vllm:num_requests_waiting)",
                },
            ),
        ],
        "Board": [
            Chart("Power", "watt", {_GPU: "fleetune:gpu:power_w"}),
            Chart("Temperature", "celsius", {_GPU: "fleetune:gpu:temperature_c"}),
            Chart("Reasons that hold it back, but for its power limit", "short", {_GPU: _HELD_BACK}),
        ],
    },
)
_ENGINES = Board(
    "fleetune-engines",
    "Fleetune: engines",
    {
        "Load": [
            Chart("Running", "short", {"{{engine}}": "vllm:num_requests_running"}),
            Chart("Waiting", "short", {"{{engine}}": "vllm:num_requests_waiting"}),
            Chart("KV cache used", "percentunit", {"{{engine}}": "vllm:kv_cache_usage_perc"}),
            Chart("Preemptions per second", "short", {"{{engine}}": "rate(vllm:num_preemptions_total[5m])"}),
        ],
        "Tokens": [
            Chart("Prompt tokens per second", "short", {"{{engine}}": "rate(vllm:prompt_tokens_total[5m])"}),
            Chart("Output tokens per second", "short", {"{{engine}}": "rate(vllm:generation_tokens_total[5m])"}),
            Chart(
                "Prompt tokens found in the prefix cache",
                "percentunit",
                {
                    "{{engine}}": "rate(vllm:prefix_cache_hits_total[5m])"
                    " / (rate(vllm:prefix_cache_queries_total[5m]) > 0)"
                },
            ),
        ],
    },
)
