"""Operations: is everything all right, how many replicas and why, what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.engines.gpu import EngineGpu
from controlplane.domain.operations.cost import Cost
from controlplane.domain.operations.health import InstallationHealth, ServiceHealth, Standing
from dashboards import components, markup, theme, words
from dashboards.client import ApiClient, Scaling
from dashboards.markup import Card, Column, Html

_COLOUR = {Standing.RIGHT: theme.GOOD, Standing.WATCH: theme.WARN, Standing.WRONG: theme.BAD}
_COST_H = 1 / 12  # the page asks again every few seconds: an hour of records would be read each time
_SAID = {
    Standing.RIGHT: "everything is all right",
    Standing.WATCH: "nobody suffers yet",
    Standing.WRONG: "not all right",
}


def show(client: ApiClient) -> None:
    """Render the page."""
    health = client.health()
    components.headline("Operations", _SAID[health.standing], _pill(health.standing))
    for spec in [s.spec for s in client.services() if s.spec.engine.kind is EngineKind.EMULATOR][:1]:
        components.emulation(spec.engine.kind, spec.gpus.type, spec.engine.time_lapse)
    if not health.services:
        components.note("No service yet", "One is registered when it is brought up:", "fleetune up -f service.yaml")
        return
    costs = [client.cost(each.service, hours=_COST_H) for each in health.services]
    components.cards(_cards(health, costs))
    components.section("Services")
    _services(health.services)
    _gpus(health.services)
    components.section("Replicas")
    _replicas(health.services, [client.scaling(each.service) for each in health.services])
    components.section("Cost of the last five minutes")
    _costs(costs)


def _pill(standing: Standing) -> Html:
    return markup.pill(standing.value, _COLOUR[standing])


def _cards(health: InstallationHealth, costs: Sequence[Cost]) -> list[Card]:
    ready, wanted = (sum(getattr(each, name) for each in health.services) for name in ("ready", "wanted"))
    return [
        Card("Replicas ready", f"{ready} of {wanted}", "", "of all services", theme.STABLE),
        Card("Cost", words.usd(sum(each.usd_per_hour for each in costs)), "per hour", "of GPUs held now"),
        _saved(health.services),
        Card(
            "Free GPUs", str(health.free_gpus), "", "no engine holds them" if health.free_gpus else "engines hold all"
        ),
        Card("Studies", str(health.studies_running), "", "running"),
    ]


def _saved(services: Sequence[ServiceHealth]) -> Card:
    known = [each.saved_usd_per_hour for each in services if each.saved_usd_per_hour is not None]
    value = words.usd(sum(known)) if known else words.NONE
    return Card("Saved", value, "per hour" if known else "", "against the baselines of what was recommended")


def _services(services: Sequence[ServiceHealth]) -> None:
    titles = ("Stands", "Service", "Ready", "Requests/s", "Within the limits", "Rollout", "Why")
    rows = [
        [
            _pill(each.standing),
            each.service,
            f"{each.ready} of {each.wanted}",
            words.number(each.rps),
            words.percent(each.attainment),
            each.rollout or words.NONE,
            "; ".join(found.text for found in each.findings) or "nothing to say",
        ]
        for each in services
    ]
    components.table([Column(title, numeric=title in titles[2:5]) for title in titles], rows)


def _gpus(services: Sequence[ServiceHealth]) -> None:
    components.section("GPUs")
    rows = [_gpu_row(service.service, each) for service in services for each in service.gpus]
    if not rows:
        components.line("Nobody tells of GPUs: `fleetune doctor` says why.")
        return
    titles = ("Service", "Engine", "GPU", "Memory GiB", "Busy", "Power W", "°C", "Held back by")
    components.table([Column(title, numeric=title in titles[3:7]) for title in titles], rows)


def _gpu_row(service: str, gpu: EngineGpu) -> list[str]:
    told = gpu.reading
    used, total, power, heat = (
        words.number(each) for each in (told.memory_used_gib, told.memory_total_gib, told.power_w, told.temperature_c)
    )
    busy = None if told.utilisation_percent is None else told.utilisation_percent / 100
    held = words.NONE if told.throttled is None else "; ".join(told.throttled) or "nothing"
    return [service, gpu.engine, told.gpu, f"{used} of {total}", words.percent(busy), power, heat, held]


def _replicas(services: Sequence[ServiceHealth], scalings: Sequence[Scaling]) -> None:
    titles = ("Service", "Replicas", "Offered requests/s", "Expected", "Forecast error", "Why")
    rows = [_replica_row(each.service, scaling) for each, scaling in zip(services, scalings, strict=True)]
    components.table([Column(title, numeric=title in titles[1:5]) for title in titles], rows)


def _replica_row(service: str, scaling: Scaling) -> list[str]:
    decision = scaling.decision
    if decision is None:
        return [service, *[words.NONE] * 4, "autoscale is off: replicas are what a person or a rollout said"]
    return [
        service,
        str(decision.replicas),
        words.number(None if decision.load is None else decision.load.rate_rps),
        words.number(decision.expected_rps),
        words.percent(scaling.forecast_error),
        f"held: {decision.reason}" if decision.held else decision.reason,
    ]


def _costs(costs: Sequence[Cost]) -> None:
    titles = ("Service", "Tenant", "USD/h", "USD per million tokens", "Requests", "Tokens")
    rows = []
    for each in costs:
        per_million = words.usd(each.usd_per_million_tokens)
        rows.append([each.service, "all", words.usd(each.usd_per_hour), per_million, words.NONE, words.NONE])
        rows += [
            [
                each.service,
                tenant.tenant,
                words.usd(tenant.usd_per_hour),
                words.NONE,
                words.count(tenant.requests),
                words.count(tenant.prompt_tokens + tenant.output_tokens),
            ]
            for tenant in each.tenants
        ]
    components.table([Column(title, numeric=title in titles[2:]) for title in titles], rows)
