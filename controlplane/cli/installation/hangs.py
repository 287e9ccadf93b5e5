"""Whether the processes of an installation do anything: the port of one that hangs still takes connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from controlplane.cli.installation.check import Check, Outcome, short
from controlplane.domain.operations.health import controller_findings

TIMEOUT_S = 5.0


def processes(urls: Mapping[str, str], passed_s_ago: float | None, get: Callable[[str], int] | None = None) -> Check:
    """Ask each process at its URL whether it is well, and look when the controller last finished a pass."""
    told = {name: said for name, url in urls.items() if (said := _trouble(name, url, get or _status))}
    for each in controller_findings(passed_s_ago):
        told["controller"] = each.text.partition(":")[0]
    if not told:
        return Check("processes", Outcome.WELL, f"{', '.join([*urls, 'controller'])} are well")
    logs = " and ".join(f"logs/{name}.log" for name in told)
    do = f"see {logs} of the data folder; one that hangs is started again once it is killed"
    return Check("processes", Outcome.BROKEN, "; ".join(told.values()), do)


def _trouble(name: str, url: str, get: Callable[[str], int]) -> str | None:
    try:
        status = get(url)
    except httpx.HTTPError as error:
        return f"{name} does not answer ({short(error)})"
    return f"{name} answers {status}" if status >= 500 else None


def _status(url: str) -> int:
    return httpx.get(url, timeout=TIMEOUT_S, trust_env=False).status_code
