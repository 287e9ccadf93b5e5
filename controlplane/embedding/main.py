"""`fleetune-embed MODEL --flags…`: one embedding engine, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from controlplane.embedding.batches import Batches
from controlplane.embedding.layers import graph_of, load_layers
from controlplane.embedding.model import EmbeddingModel, ModelError, load_static
from controlplane.embedding.server import application
from controlplane.embedding.settings import EmbeddingSettings, parse_command_line


def main() -> None:
    """Run it; the exit code is 0 after a stop, 1 when it could not start, 2 for a wrong flag."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    settings = parse_command_line(arguments)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # --threads says how much of the processor is ours
    try:
        model = load_model(settings)
        asyncio.run(_live(settings, model))
    except ModelError as error:
        sys.stderr.write(f"ModelError: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"OSError: {error}\n")
        return 1
    return 0


def load_model(settings: EmbeddingSettings) -> EmbeddingModel:
    """Return the packaged model, or the one in a folder: its ONNX export where it has one. Raises ModelError."""
    folder = Path(settings.model)
    graph = graph_of(folder)
    if graph is not None:
        device, threads = settings.device, settings.threads_per_batch
        return load_layers(folder, graph, max_tokens=settings.max_tokens, device=device, threads=threads)
    if settings.device != "cpu":
        raise ModelError(f"{settings.model} has no ONNX export, and a table of vectors is read on the processor alone")
    return load_static(settings.model, max_tokens=settings.max_tokens)


async def _live(settings: EmbeddingSettings, model: EmbeddingModel) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with contextlib.closing(_batches(settings, model)) as batches:
        app = application(settings.served_name, batches, vocabulary=model.vocabulary)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=settings.shutdown_timeout_s)
        await runner.setup()
        await web.TCPSite(runner, settings.host, settings.port).start()
        sys.stderr.write(f"fleetune-embed: {settings.model}, {model.dimensions} dimensions\n")
        await stop.wait()
        await runner.cleanup()


def _batches(settings: EmbeddingSettings, model: EmbeddingModel) -> Batches:
    return Batches(
        model.embed,
        max_batch_size=settings.max_batch_size,
        max_wait_s=settings.max_wait_ms / 1e3,
        threads=settings.threads,
        max_queue=settings.max_queue,
    )


if __name__ == "__main__":
    main()
