"""Is memory flat while thousands of streams last? Our gateway before the stub engine of `benchmarks.gateway`, no more.

    python -m benchmarks.crowd --ours on [--streams 5000] [--seconds 1800] [--per-s 0.25] [--json PATH]

`--ours off` has none of our stages on, `on` has all of them, with a key and the audit log. Each stream asks for tokens
for 40 s longer than memory is looked at. Memory does not depend on how fast they come, so a token every few
seconds shows on a busy machine what a fast engine would: by time, and by tokens. No chance is involved.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.doors import contestants
from benchmarks.doors.contestants import ALL_STAGES, Place
from benchmarks.doors.load import AFTER_S, Crowd, client, crowd, told
from benchmarks.doors.publishing import publish
from benchmarks.gateway import leave_core, stub
from controlplane.domain.door.gateway_options import GatewayOptions

TOLD_AT_S = (0, 60, 300, 600, 1200, 1800)


async def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Hold the streams open and return what was seen, with what is needed to judge and repeat it."""
    core = max(os.sched_getaffinity(0))
    leave_core(core)
    on = args.ours == "on"
    options = ALL_STAGES if on else GatewayOptions(prefix_affinity=False)
    async with stub() as stub_url, client() as session:
        place = Place(core, stub_url, folder)
        async with contestants.ours(place, "ours", options, keyed=on, audited=on) as door:
            tokens = round((args.seconds + AFTER_S) * args.per_s)
            found = await crowd(session, door, streams=args.streams, tokens=tokens, per_s=args.per_s)
    return {
        "command": " ".join(["python -m benchmarks.crowd", *sys.argv[1:]]),
        "at": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} CPUs, {platform.platform()}",
        "load_average": psutil.getloadavg(),
        "stages": args.ours,
        "memory_mib": memory_at(found),
        "crowd": told(found),
    }


def memory_at(found: Crowd) -> dict[int, float]:
    """Return the memory, MiB, at some seconds since all streams ran: as first looked at from then on."""
    looked = {at_s: [mib for seen_s, mib in found.rss_mib if seen_s >= at_s - 1] for at_s in TOLD_AT_S}
    return {at_s: seen[0] for at_s, seen in looked.items() if seen}


def show(found: dict[str, Any]) -> None:
    """Print memory by time, how fast it grew, and what was lost."""
    seen = found["crowd"]
    print(f"{found['machine']}; load average {found['load_average'][0]:.1f}; stages {found['stages']}")
    print(f"{seen['streams']} streams of {seen['per_s']:g} tokens/s: {seen['tokens']} tokens, {seen['lost']} lost")
    print(f"not begun at first, by status: {dict(seen['refused'])}")
    print(", ".join(f"{int(at_s) // 60} min {mib:.1f} MiB" for at_s, mib in found["memory_mib"].items()))
    print(f"{seen['mib_per_minute']:+.3f} MiB a minute without the first fifth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--ours", choices=("on", "off"), required=True, help="with which stages")
    add("--streams", type=int, default=5000)
    add("--seconds", type=int, default=1800, help="that memory is looked at")
    add("--per-s", type=float, default=0.25, help="tokens a second of each stream")
    add("--json", type=Path, help="where the figures go")
    publish(parser.parse_args(), measure, show)


if __name__ == "__main__":
    main()
