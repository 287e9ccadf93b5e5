"""How the dashboard is started: the command a supervisor runs. Loopback only, and nothing leaves the machine."""

from __future__ import annotations

import sys
from pathlib import Path

from dashboards.theme import STREAMLIT_OPTIONS

URL_VARIABLE = "FLEETUNE_API_URL"
KEY_VARIABLE = "FLEETUNE_API_KEY"
LOG_VARIABLE = "FLEETUNE_DASHBOARD_LOG"
"""File that the dashboard logs to; without it to stderr."""

HOST = "127.0.0.1"

_OPTIONS = {
    "server.address": HOST,
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    **STREAMLIT_OPTIONS,
}


def dashboard_command(port: int, api_url: str) -> list[str]:
    """Return the command that serves the dashboard on 127.0.0.1:`port` for the API at `api_url`.

    An API key goes in by the environment variable FLEETUNE_API_KEY, never by the command line.
    """
    app = Path(__file__).with_name("app.py")
    options = [f"--{name}={value}" for name, value in {**_OPTIONS, "server.port": port}.items()]
    return [sys.executable, "-m", "dashboards.serve", "run", str(app), *options, "--", api_url]
