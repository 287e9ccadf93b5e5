"""What runs on beside the tests: threads that watch a cluster must end with who started them."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Set

_OF_CLUSTERS = ("watch ", "kubelet ")
"""How the threads of watches are named, in the product and in the stand-in."""
_TO_END_S = 60.0  # only one that does not end at all keeps a busy machine for so long


def watchers() -> frozenset[threading.Thread]:
    """Return the threads of this process that watch a cluster, or are a node of one."""
    return frozenset(each for each in threading.enumerate() if each.name.startswith(_OF_CLUSTERS))


def left_of(before: Set[threading.Thread], *, within_s: float = _TO_END_S) -> list[str]:
    """Return the names of watchers that were not there before and do not end within so long, in order."""
    give_up_s = time.monotonic() + within_s
    if watchers() - before:
        gc.collect()  # owners that nobody holds any more
    for thread in watchers() - before:
        thread.join(max(0.0, give_up_s - time.monotonic()))
    return sorted(thread.name for thread in watchers() - before)
