"""Memory that was given back stays with the process where the C library can be told so."""

from __future__ import annotations

import subprocess
import sys

import pytest

_AGAIN_AND_AGAIN = """
import resource
from controlplane.host.memory import keep_freed_memory
told = keep_freed_memory() if {kept} else True
take = lambda: (bytearray(1 << 20), bytearray(1 << 20), bytearray(1 << 20))
take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    take()
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, kept: bool) -> int:
    """Return how many pages a process asks for that takes a megabyte again and again."""
    script = _AGAIN_AND_AGAIN.format(kept=kept)
    said = subprocess.run((sys.executable, "-c", script), check=True, capture_output=True, text=True).stdout.split()
    assert said[0] == "True"
    return int(said[1])


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_memory_that_is_taken_again_is_not_asked_for_page_by_page() -> None:
    assert faults(kept=True) < 50
    assert faults(kept=False) > 1000
