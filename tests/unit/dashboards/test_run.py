"""The command that serves the dashboard."""

from __future__ import annotations

from dashboards.run import dashboard_command
from dashboards.serve import warm_up


def test_the_dashboard_listens_on_loopback_only_and_sends_nothing_home() -> None:
    command = dashboard_command(8501, "http://127.0.0.1:8700")
    assert "--server.address=127.0.0.1" in command
    assert "--server.port=8501" in command
    assert "--browser.gatherUsageStats=false" in command
    assert command[-1] == "http://127.0.0.1:8700"


def test_the_pages_are_loaded_once_the_server_listens_and_before_anybody_asks() -> None:
    happened: list[str] = []

    def listens() -> bool:
        happened.append("looked")
        return len(happened) == 2

    warm_up(listens, happened.append)
    assert happened == ["looked", "looked", "dashboards.app"]
