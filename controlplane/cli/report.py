"""`fleetune report STUDY --html PATH`: a study as a page to keep or send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.asking import HERE, Api, DataDir, Key
from controlplane.cli.errors import plain_errors
from controlplane.cli.files import require_writable
from controlplane.cli.reaching import client
from controlplane.cli.tables.report_html import study_page
from controlplane.domain.studies.study import Study, Trial


@plain_errors
def report(
    study: Annotated[str, typer.Argument(help="Its id.")],
    html: Annotated[Path, typer.Option("--html", help="File to write.")],
    api: Api = None,
    key: Key = None,
    data_dir: DataDir = HERE,
) -> None:
    """Write a study as one self-contained HTML page."""
    require_writable(html)
    server = client(api, key, data_dir)
    found = Study.model_validate(server.get(f"/studies/{study}"))
    trials = [Trial.model_validate(each) for each in server.get(f"/studies/{study}/trials")["items"]]
    html.write_text(study_page(found, sorted(trials, key=lambda trial: trial.number)))
    typer.echo(f"wrote {html}")
