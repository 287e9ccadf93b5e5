"""`python -m controlplane.emulator.dialects.main KIND [--emulator-…] -- WORDS`: the emulator as another engine.

WORDS are what that engine gets after its program's name. Health, requests, metrics and refusals are as its driver says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from controlplane.domain.engines.drivers import driver_of
from controlplane.domain.engines.engine import EngineKind
from controlplane.emulator.dialects.command_line import Refused, as_vllm, read
from controlplane.emulator.dialects.refusals import REFUSALS, Refusals
from controlplane.emulator.flags import parse_command_line
from controlplane.emulator.main import Words, log, serve, visible_devices
from controlplane.emulator.settings import EmulatorSettings

_MEMORY = ("memory", "cache blocks")


def main() -> None:
    """Run one emulated engine until it is told to stop; exits as the other engine would."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Return the exit code: 0 after a stop, the engine's own for a refused flag, 1 when it could not start."""
    kind = EngineKind(arguments[0])
    refusals, split = REFUSALS[kind], list(arguments).index("--")
    try:
        given = read(kind, arguments[split + 1 :])
    except Refused as refused:
        log(str(refused))
        return refusals.exit_code
    words = [*as_vllm(kind, given), *arguments[1:split]]
    settings = parse_command_line(words, visible_devices=visible_devices(environment))
    return serve(settings.evolve(speaks=driver_of(kind)), _words(settings, refusals))


def _words(settings: EmulatorSettings, refusals: Refusals) -> Words:
    def refused(text: str) -> str:
        if any(word in text for word in _MEMORY):
            return refusals.out_of_memory
        return refusals.no_model.format(value=settings.model) if settings.model in text else text

    place = f"{settings.host}:{settings.port}"
    return Words(refused=refused, port=lambda _: refusals.port.format(place=place))


if __name__ == "__main__":
    main()
