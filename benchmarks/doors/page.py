"""The page of a comparison of doors, made of its figures: `docs/results/gateway.md` of `gateway.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.doors.load import SHAPES

BY_GRPC = "short by gRPC"
TARGET_TIMES_LITELLM = 25.0
TARGET_TIMES_ENVOY = 5.0
TARGET_P99_MS = 1.0

_ON, _OFF = "ours, stages on", "ours, stages off"
_NAMED: Mapping[str, str] = {
    "short": "short answers",
    "stream32": "streams of 32 tokens",
    "body100k": "bodies of 100,000 words",
}

Figures = Mapping[str, Any]


def page(found: Figures) -> str:
    """Return the page. `found` is what `benchmarks.gateway` reports; doors that were not there have no row."""
    doors: Figures = found["doors"]
    parts = [_heading(found), _costs(doors), _added(doors), _stages(doors), _targets(doors)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(found: Figures) -> str:
    load = found["load_average"][0]
    return f"""# The gateway beside LiteLLM's proxy and Envoy

Made of [gateway.json](gateway.json) by `{found["command"]}`, {found["at"]};
{found["machine"]}; load average at the end {load:.1f}.

Each door has a core of its own, stub engine and client the others. CPU is that of all a door's processes; medians over
the rounds. With every stage on: a key, limits, screening, a cache that finds nothing and keeps everything, redaction
of all kinds, the queue and the audit log. LiteLLM has nothing on."""


def _costs(doors: Figures) -> str:
    rows = [
        f"| {name} | " + " | ".join(_cost(door, shape, doors) for shape in SHAPES) + " |"
        for name, door in doors.items()
    ]
    head = "| requests a second and core (µs of CPU) | " + " | ".join(_NAMED[shape] for shape in SHAPES) + " |"
    return "\n".join((head, _rule(len(SHAPES)), *rows, *_grpc(doors)))


def _cost(door: Figures, shape: str, doors: Figures) -> str:
    text = f"{door[shape]['per_core_s']:,.0f} ({door[shape]['cpu_us']:,.0f})"
    if door is doors.get(_ON) or door is doors.get(_OFF):
        text += "".join(f"; {times:.1f} x {told}" for told, times in _times(door, shape, doors))
    return text


def _times(door: Figures, shape: str, doors: Figures) -> Iterator[tuple[str, float]]:
    """Yield how many times LiteLLM's requests a core carries, and how many times Envoy's CPU a request takes."""
    if "litellm" in doors:
        yield "LiteLLM", door[shape]["per_core_s"] / doors["litellm"][shape]["per_core_s"]
    if "envoy" in doors:
        yield "Envoy's CPU", door[shape]["cpu_us"] / doors["envoy"][shape]["cpu_us"]


def _grpc(doors: Figures) -> Iterator[str]:
    for name, door in doors.items():
        if BY_GRPC in door:
            each = door[BY_GRPC]
            yield f"| {name}, by gRPC | {each['per_core_s']:,.0f} ({each['cpu_us']:,.0f}) | | |"


def _added(doors: Figures) -> str:
    rows = []
    for name, door in doors.items():
        half = door["half load"]
        at_half = f" {half['p50_ms']:.2f} | {half['p99_ms']:.2f} | {half['per_s']:,.0f} |" if half else " | | |"
        rows.append(f"| {name} | {door['idle']['p50_ms']:.2f} | {door['idle']['p99_ms']:.2f} |{at_half}")
    head = "| added to a short answer, ms | idle P50 | idle P99 | half load P50 | half load P99 | requests/s then |"
    return "\n".join((head, _rule(5), *rows))


def _stages(doors: Figures) -> str:
    """What each stage takes beyond none, where they were turned on one by one."""
    alone = {name: door for name, door in doors.items() if name.startswith("+ ")}
    if not alone or _OFF not in doors:
        return ""
    rows = [
        f"| {name[2:]} | " + " | ".join(_more(door, shape, doors) for shape in SHAPES) + " |"
        for name, door in alone.items()
    ]
    head = "| a stage by itself, µs of CPU beyond none | " + " | ".join(_NAMED[shape] for shape in SHAPES) + " |"
    return "\n".join((head, _rule(len(SHAPES)), *rows))


def _more(door: Figures, shape: str, doors: Figures) -> str:
    return f"{door[shape]['cpu_us'] - doors[_OFF][shape]['cpu_us']:+,.0f}"


def _targets(doors: Figures) -> str:
    return "\n".join(["| target | measured | |", "|---|---|---|", *(_target(*each) for each in _held(doors))])


def _target(told: str, measured: str, held: bool) -> str:
    return f"| {told} | {measured} | {'held' if held else '**missed**'} |"


def _held(doors: Figures) -> Iterator[tuple[str, str, bool]]:
    on, off = doors.get(_ON), doors.get(_OFF)
    for shape in ("short", "stream32"):
        if on and "litellm" in doors:
            times = dict(_times(on, shape, doors))["LiteLLM"]
            told = f"every stage on, {_NAMED[shape]}: at least {TARGET_TIMES_LITELLM:g} x LiteLLM's requests a core"
            yield told, f"{times:.1f} x", times >= TARGET_TIMES_LITELLM
        if off and "envoy" in doors:
            times = dict(_times(off, shape, doors))["Envoy's CPU"]
            told = f"stages off, {_NAMED[shape]}: at most {TARGET_TIMES_ENVOY:g} x Envoy's CPU"
            yield told, f"{times:.1f} x", times <= TARGET_TIMES_ENVOY
    for name in (each for each in (_OFF, _ON) if each in doors):
        added = doors[name]["idle"]["p99_ms"]
        told = f"{name}: P99 of a short answer at idle at most {TARGET_P99_MS:g} ms more"
        yield told, f"{added:.2f} ms", added <= TARGET_P99_MS


def _rule(columns: int) -> str:
    return "|---" * (columns + 1) + "|"
