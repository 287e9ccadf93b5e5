"""`python -m dashboards.serve run app.py ...`: Streamlit's own command line, with its log as JSON lines.

What the pages need is loaded as soon as the server listens, so that the first person does not wait for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from threading import Thread

from controlplane.telemetry import logs
from dashboards.run import LOG_VARIABLE

LOOK_S = 0.05


def warm_up(listens: Callable[[], bool], load: Callable[[str], object] = import_module) -> None:
    """Load the pages once the server listens: earlier, two threads would import Streamlit at once."""
    while not listens():
        time.sleep(LOOK_S)
    load("dashboards.app")


if __name__ == "__main__":
    file = os.environ.pop(LOG_VARIABLE, None)
    logs.begin("dashboard", None if file is None else Path(file))
    from streamlit import runtime
    from streamlit.web.cli import main

    Thread(target=warm_up, args=(runtime.exists,), name="warm-up", daemon=True).start()
    main(prog_name="streamlit")
