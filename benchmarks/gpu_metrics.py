"""What NVML says of the GPUs of a real host, through the adapter that the controller uses; nothing is emulated.

    python -m benchmarks.gpu_metrics --seconds 10 --json gpus.json

Needs the standard library and nvidia-ml-py only. Looks once a second and says how long a look takes; run it beside a
busy engine and beside none. Exit code 1 when NVML cannot be asked.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from controlplane.adapters.gpus_nvml import NvmlGpus
from controlplane.domain.engines.gpu import to_dcgm
from controlplane.domain.errors import Unavailable

EVERY_S = 1.0


def looks(gpus: NvmlGpus, *, seconds: float) -> list[dict[str, Any]]:
    """Return a look each second: what it took and what each GPU said. Raises Unavailable."""
    found: list[dict[str, Any]] = []
    began_s = time.perf_counter()
    while True:
        at_s = time.perf_counter()
        readings = gpus.readings()
        took_ms = 1e3 * (time.perf_counter() - at_s)
        told = [asdict(each) | {"dcgm": to_dcgm(each)} for each in readings]
        found.append({"at_s": at_s - began_s, "took_ms": took_ms, "gpus": told})
        if time.perf_counter() - began_s + EVERY_S > seconds:
            return found
        time.sleep(EVERY_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path, help="Where the looks are written.")
    asked = parser.parse_args()
    try:
        found = looks(NvmlGpus(), seconds=asked.seconds)
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    for look in found:
        for gpu in look["gpus"]:
            print(f"{look['at_s']:5.1f} s, {look['took_ms']:6.2f} ms:", {k: v for k, v in gpu.items() if k != "dcgm"})
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
