"""Fleet: every engine as it is observed, and which GPUs are free."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.owner import ReplayOwner, ReplicaOwner, TrialOwner
from controlplane.domain.serving import Service
from dashboards import components, markup, theme, words
from dashboards.client import ApiClient, FleetState
from dashboards.markup import Card, Column

_LIVE = (EngineState.STARTING, EngineState.READY, EngineState.DRAINING)


def show(client: ApiClient) -> None:
    """Render the page."""
    services = client.services()
    fleet = client.fleet()
    components.headline("Fleet", "Engines as they answer now")
    for spec in [s.spec for s in services if s.spec.engine.kind is EngineKind.EMULATOR][:1]:
        components.emulation(spec.engine.kind, spec.gpus.type, spec.engine.time_lapse)
    components.cards(_cards(fleet))
    if not fleet.engines:
        components.note(
            "No engine yet", "Engines start as soon as a service is registered:", "fleetune up -f service.yaml"
        )
        return
    components.section("GPUs")
    _gpus(fleet, services)
    components.section("Engines")
    _engines(fleet.engines)


def _cards(fleet: FleetState) -> list[Card]:
    def count(state: EngineState) -> int:
        return sum(engine.state is state for engine in fleet.engines)

    failed = count(EngineState.FAILED)
    used = sum(len(engine.gpu_indices) for engine in fleet.engines if engine.state in _LIVE)
    return [
        Card("Ready engines", str(count(EngineState.READY)), "", "answered a real request", theme.GOOD),
        Card("Starting", str(count(EngineState.STARTING)), "", "not ready yet", theme.CANARY),
        Card("Draining", str(count(EngineState.DRAINING)), "", "finish, get nothing new", theme.WARN),
        Card("Failed", str(failed), "", "why stands below" if failed else "none", theme.BAD),
        Card("GPUs held", str(used), "", f"{fleet.free_gpus} free"),
    ]


def _gpus(fleet: FleetState, services: Sequence[Service]) -> None:
    held = [(index, engine) for engine in fleet.engines if engine.state in _LIVE for index in engine.gpu_indices]
    tiles = [_tile(index, engine, services) for index, engine in sorted(held, key=lambda each: each[0])]
    names = [f"GPU {index}" for index in fleet.free_gpu_indices] or [words.NONE] * fleet.free_gpus
    tiles += [f'<div class="ft-gpu free"><b>{name}</b>free</div>' for name in names]
    st.html(f'<div class="ft-gpus">{"".join(tiles)}</div>')


def _tile(index: int, engine: Engine, services: Sequence[Service]) -> str:
    name, colour = _role(engine, services)
    return f'<div class="ft-gpu" style="background:{colour}"><b>GPU {index}</b>{escape(name)}</div>'


def _role(engine: Engine, services: Sequence[Service]) -> tuple[str, str]:
    match engine.spec.owner:
        case TrialOwner():
            return "trial", theme.BASELINE
        case ReplayOwner():
            return "replay", theme.BASELINE
        case ReplicaOwner(revision=revision):
            stable = any(service.stable == revision for service in services)
            return ("stable", theme.STABLE) if stable else ("canary", theme.CANARY)


def _engines(engines: Sequence[Engine]) -> None:
    titles = ("State", "Engine", "GPU numbers", "Start-up", "Flags", "What went wrong")
    rows = [
        [
            markup.pill(engine.state.value, words.ENGINE_COLOUR[engine.state]),
            _name(engine),
            ", ".join(map(str, engine.gpu_indices)) or words.NONE,
            words.span(engine.startup_s),
            markup.flag_lines(engine.spec.config),
            ": ".join(filter(None, (engine.failure and engine.failure.in_words, engine.failure_detail))),
        ]
        for engine in engines
    ]
    components.table([Column(title, numeric=title == "Start-up") for title in titles], rows)


def _name(engine: Engine) -> markup.Html:
    kind = engine.spec.driver.title
    return markup.two_lines(engine.spec.engine_id, " · ".join(filter(None, (kind, str(engine.spec.owner), engine.url))))
