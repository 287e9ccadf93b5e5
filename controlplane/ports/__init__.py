"""What the use cases need from the world. Every method is idempotent: a crash between a save and an act is repaired by
repeating it on the next pass. One contract suite per port (`tests/contract`) runs on the fake and the real adapter.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

Clock = Callable[[], datetime]
"""Returns the present moment, aware, UTC."""
