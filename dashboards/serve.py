"""`python -m dashboards.serve run app.py ...`: Streamlit's own command line, with its log as JSON lines."""

from __future__ import annotations

import os
from pathlib import Path

from controlplane.telemetry import logs
from dashboards.run import LOG_VARIABLE

if __name__ == "__main__":
    file = os.environ.pop(LOG_VARIABLE, None)
    logs.begin("dashboard", None if file is None else Path(file))
    from streamlit.web.cli import main

    main(prog_name="streamlit")
