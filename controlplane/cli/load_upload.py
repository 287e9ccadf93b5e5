"""`fleetune load upload`: a report measured here or elsewhere, kept by the control plane and shown by the dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from controlplane.cli.asking import HERE, Api, DataDir, Key
from controlplane.cli.errors import plain_errors
from controlplane.cli.reaching import client
from controlplane.cli.tables.show import console
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.domain.report import LoadTestReport
from controlplane.reading.problems import describe
from controlplane.reading.text_file import RECORDING_BYTES, read_text


@plain_errors
def upload(
    report: Annotated[Path, typer.Argument(help="The report, as `fleetune load --json FILE` writes it.")],
    name: Annotated[str, typer.Argument(help="What to keep it as, e.g. nightly-7.")],
    service: Annotated[str | None, typer.Option(help="The service it is of.")] = None,
    api: Api = None,
    key: Key = None,
    data_dir: DataDir = HERE,
) -> None:
    """Give a report to the control plane: its dashboard shows it. Figures only; records stay here."""
    read = _read(report)
    body = {"report_id": name, "service": service, "report": read.model_dump(mode="json")}
    client(api, key, data_dir).post("/load-reports", body)
    console.print(f"load report {name} is kept; the dashboard shows it under Load report", highlight=False)


def _read(path: Path) -> LoadTestReport:
    allowed = "a file that `fleetune load --json FILE` wrote"
    try:
        return LoadTestReport.model_validate_json(read_text(path, most_bytes=RECORDING_BYTES))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}", why=unreadable(error), allowed=allowed) from error
    except ValidationError as error:
        raise InvalidInput(f"{path} is no load report", why=describe(error), allowed=allowed) from error
