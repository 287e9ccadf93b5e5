"""Reading measured engines: one JSON file per configuration, probes and trace replays with their single requests.

The format is that of the published H200 measurements: `args` are the flags given, `columns` name the fields of each row
of `requests` (seconds; `e2e_s` null where the run ended first), `workload` is a probe or a trace at a rate.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.reading.text_file import RECORDING_BYTES, read_text
from tuner.twin.compiled_state import Floats
from tuner.twin.shapes import SHIPPED_SHAPES, ModelShape, load_shape, parse_shape
from tuner.twin.simulate import RequestArrays

_COLUMNS = ("scheduled_s", "ttft_s", "e2e_s", "prompt_tokens", "output_tokens", "send_lag_s")
_GAUGES = (
    "t_s",
    "running",
    "kv_cache_usage",
    "prompt_tokens_total",
    "generation_tokens_total",
    "iterations_total",
)
_NO_MEASUREMENTS = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
_KEPT = "a file that `fleetune calibrate --keep FILE` wrote, or one of the published recordings"


class DecodeStep(NamedTuple):
    """The mean step of an interval in which the engine worked on no prompt."""

    sequences: float
    context_tokens: float
    """All sequences together."""
    step_s: float


class Cell(NamedTuple):
    """One measured workload. Latencies count from the scheduled instant; NaN where the run ended first."""

    name: str
    """`probe 128/48 x8` (prompt/output tokens x requests) or `<trace> @ <rate>`."""
    workload: str
    rate_rps: float | None
    """None for probes, which are bursts at one instant."""
    requests: RequestArrays
    ttft_s: Floats
    e2e_s: Floats
    lag_s: Floats
    unfinished: int
    decode_steps: tuple[DecodeStep, ...] = ()
    """Mean decode-only steps, from the engine's own counters."""

    @property
    def is_probe(self) -> bool:
        return self.rate_rps is None

    @property
    def saturated(self) -> bool:
        """Measured P99 TTFT of 2 s or more, or requests that did not finish."""
        return self.unfinished > 0 or float(np.nanpercentile(self.ttft_s, 99)) >= 2.0


class MeasuredEngine(NamedTuple):
    """One file: an engine configuration and what was measured on it."""

    engine_id: str
    engine_version: str
    gpu: str
    shape: ModelShape
    config: EngineConfig
    kv_cache_tokens: float
    weights_gib_per_gpu: float
    cells: tuple[Cell, ...]


def read_folder(folder: Path) -> tuple[MeasuredEngine, ...]:
    """Return every measured engine of a folder, by file name. Raises InvalidInput for none, or a broken one."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise InvalidInput(f"no measurements in {folder}", allowed="a folder of one JSON file per engine configuration")
    return tuple(read_file(file) for file in files)


def read_file(file: Path) -> MeasuredEngine:
    """Return one measured engine. Raises InvalidInput when the file is not in the format."""
    try:
        return _engine(json.loads(read_text(file, most_bytes=RECORDING_BYTES)))
    except OSError as error:
        raise InvalidInput(f"cannot read {file}", why=unreadable(error), allowed=_KEPT) from error
    except _NO_MEASUREMENTS as error:
        why = f"{type(error).__name__}: {str(error)[:200]}"
        raise InvalidInput(f"{file} is not a measurement file", why=why, allowed=_KEPT) from error


def _engine(raw: dict[str, Any]) -> MeasuredEngine:
    columns = {name: raw["columns"].index(name) for name in _COLUMNS}
    return MeasuredEngine(
        engine_id=raw["id"],
        engine_version=str(raw["engine"]).removeprefix("vllm "),
        gpu=raw["gpu"],
        shape=_measured_shape(raw),
        config=EngineConfig(flags=raw["args"]),
        kv_cache_tokens=raw["kv_cache_tokens"],
        weights_gib_per_gpu=raw["weights_gib_per_gpu"],
        cells=tuple(
            _cell(measurement, columns)._replace(decode_steps=_decode_steps(measurement, raw))
            for measurement in raw["measurements"]
            if measurement["requests"]
        ),
    )


def write_file(engine: MeasuredEngine, file: Path) -> None:
    """Write one measured engine as `read_file` reads it. Raises InvalidInput when the file cannot be written."""
    raw = {
        "id": engine.engine_id,
        "engine": f"vllm {engine.engine_version}",
        "gpu": engine.gpu,
        "model": engine.shape.name,
        "shape": engine.shape.model_dump(mode="json"),
        "args": dict(engine.config.flags),
        "kv_cache_tokens": engine.kv_cache_tokens,
        "weights_gib_per_gpu": engine.weights_gib_per_gpu,
        "columns": _COLUMNS,
        "measurements": [_raw_cell(cell) for cell in engine.cells],
    }
    try:
        file.write_text(json.dumps(raw, indent=1) + "\n")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written", why=str(error)) from error


def _raw_cell(cell: Cell) -> dict[str, Any]:
    sent = cell.requests
    columns = (sent.scheduled_s, cell.ttft_s, cell.e2e_s, sent.prompt_tokens, sent.output_tokens, cell.lag_s)
    rows = np.column_stack(columns).astype(float)
    probe = {"isl": int(sent.prompt_tokens[0]), "osl": int(sent.output_tokens[0]), "n": len(rows)}
    replay = {"trace": cell.workload, "rate_rps": cell.rate_rps}
    return {
        "workload": {"probe": probe} if cell.is_probe else replay,
        "requests": [[None if np.isnan(value) else value for value in row] for row in rows.tolist()],
        "decode_steps": cell.decode_steps,
    }


def _measured_shape(raw: dict[str, Any]) -> ModelShape:
    """Of the file's own `shape` or `model_config`, else of its model's name."""
    if "model_config" in raw:
        return parse_shape(raw["model_config"], name=str(raw["model"]).split()[0].lower())
    if "shape" not in raw:
        return _shape(raw["model"])
    if "layers" in raw["shape"]:
        return ModelShape.model_validate(raw["shape"])
    return parse_shape(
        {"model_type": "llama", **raw["shape"]}, name=raw["shape"]["name"]
    )  # kept before shapes had layers


def _shape(text: str) -> ModelShape:
    """Llama-3.1-8B shape, dummy weights → llama-8b; else a shipped name or a path."""
    words = text.lower().replace(",", " ").replace("-", " ").split()
    for name in SHIPPED_SHAPES:
        if name.split("-")[1] in words:
            return load_shape(name)
    return load_shape(text)


def _cell(raw: dict[str, Any], columns: dict[str, int]) -> Cell:
    rows = np.array([[np.nan if value is None else value for value in row] for row in raw["requests"]], float)
    rows = rows[np.argsort(rows[:, columns["scheduled_s"]], kind="stable")]
    table = {name: rows[:, index] for name, index in columns.items()}
    name, workload, rate = _workload(raw["workload"])
    requests = RequestArrays(
        scheduled_s=table["scheduled_s"] - table["scheduled_s"][0],
        prompt_tokens=table["prompt_tokens"].astype(np.int64),
        output_tokens=table["output_tokens"].astype(np.int64),
    )
    return Cell(
        name=name,
        workload=workload,
        rate_rps=rate,
        requests=requests,
        ttft_s=table["ttft_s"],
        e2e_s=table["e2e_s"],
        lag_s=table["send_lag_s"],
        unfinished=int(np.isnan(table["e2e_s"]).sum()),
    )


def _decode_steps(measurement: dict[str, Any], raw: dict[str, Any]) -> tuple[DecodeStep, ...]:
    """Differences of the gauges between two looks; twenty steps or more, so that one stray step does not count."""
    if "decode_steps" in measurement:  # measured at the client, by our own calibration
        return tuple(DecodeStep(*map(float, step)) for step in measurement["decode_steps"])
    names: list[str] = raw.get("gauge_columns", [])
    rows = measurement.get("gauges") or []
    if not rows or not set(_GAUGES) <= set(names):
        return ()
    table = {name: np.array([row[names.index(name)] for row in rows], float) for name in _GAUGES}
    steps, seconds = np.diff(table["iterations_total"]), np.diff(table["t_s"])
    tokens, prompts = np.diff(table["generation_tokens_total"]), np.diff(table["prompt_tokens_total"])
    used = table["kv_cache_usage"][1:] * raw["kv_cache_tokens"]
    per_sequence = used / np.maximum(table["running"][1:], 1)
    return tuple(
        DecodeStep(tokens[i] / steps[i], per_sequence[i] * tokens[i] / steps[i], seconds[i] / steps[i])
        for i in range(len(steps))
        if steps[i] >= 20 and prompts[i] == 0 and tokens[i] >= steps[i] and used[i] > 0
    )


def _workload(raw: dict[str, Any]) -> tuple[str, str, float | None]:
    if "probe" in raw:
        probe = raw["probe"]
        name = f"probe {probe['isl']}/{probe['osl']} x{probe['n']}"
        return name, name, None
    return f"{raw['trace']} @ {raw['rate_rps']:g}", str(raw["trace"]), float(raw["rate_rps"])
