"""The environment that programs of users are given: ours, less what is the control plane's own business."""

from __future__ import annotations

from collections.abc import Mapping

_OURS = ("FLEETUNE_", "MLFLOW_TRACKING_")
"""Where the store is and who we are there, and at MLflow."""


def for_others(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a program which is not ours may see."""
    return {name: value for name, value in base.items() if not name.startswith(_OURS)}
