"""Engines of trials that nobody interrupts or follows, for tests of what becomes of the engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controlplane.ports import Clock
from controlplane.ports.fleet import Fleet
from controlplane.services.studies.trial_engine import TrialEngines


def trial_engines(fleet: Fleet, clock: Clock, sleep: Callable[[float], None], **given: Any) -> TrialEngines:
    """Return them; what is `given` stands in place of hooks that do nothing."""
    hooks: dict[str, Any] = {"check": lambda: None, "on_progress": lambda _: None, "save": lambda _: None}
    return TrialEngines(fleet=fleet, clock=clock, sleep=sleep, **hooks | given)
