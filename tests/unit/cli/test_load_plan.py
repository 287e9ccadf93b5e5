"""The command that `fleetune load plan` prints."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path

from controlplane.cli.load_plan import locust_command


def test_the_command_survives_a_shell_and_shows_its_page_to_this_machine_only() -> None:
    words = shlex.split(locust_command(Path("/my tests/plan.json")))
    given = dict(itertools.pairwise(words))
    assert given["--fleetune-plan"] == "/my tests/plan.json"
    assert given["--web-host"] == "127.0.0.1"
    assert Path(given["-f"]).is_file()
