"""An emulated engine in a storm: out of memory at one setting, dead now and then, never twice equally fast.

`python tests/e2e/loop/stormy_engine.py MODEL --host H --port P FLAGS`, in place of the emulator's own command. STORM
names a folder that counts the starts, so that chance follows from the number of the start.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from controlplane.emulator.main import run

BURSTS = "--max-num-seqs=32"  # no memory model says so
DEATHS = 0.2
SEED = 52  # only the third start dies


def faults(number: int, arguments: list[str]) -> str:
    """Return the faults of the start with this number, as the emulator reads them."""
    chance = random.Random(f"{SEED}/{number}")
    found = [f"slow-factor={1 + 0.1 * chance.random():.3f}"]
    if BURSTS in arguments:
        return "out-of-memory"
    if chance.random() < DEATHS:
        found.append(f"crash-after-requests={chance.randint(1, 10)}")
    return ",".join(found)


def _count(folder: Path) -> int:
    number = len(list(folder.iterdir()))
    (folder / str(os.getpid())).touch()
    return number


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(run([*given, f"--emulator-fault={faults(_count(Path(os.environ['STORM'])), given)}"], os.environ))
