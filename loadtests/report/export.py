"""Records as CSV or Parquet, for pandas."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from controlplane.domain.errors import InvalidInput
from loadtests.measure.records import read_records

_FORMATS = (".csv", ".parquet")


def require_format(to: Path | None) -> None:
    """Raise InvalidInput when records cannot be written under such a name; None stands for none."""
    if to is not None and to.suffix not in _FORMATS:
        raise InvalidInput(f"cannot write records as '{to.suffix}'", allowed=", ".join(_FORMATS))


def export_records(records_path: Path, to: Path) -> None:
    """Write the records to `to`, .csv or .parquet by its name; latencies that do not exist stay empty.

    Raises InvalidInput for any other ending.
    """
    require_format(to)
    table = read_records([records_path])
    frame = pd.DataFrame({name: column for name, column in vars(table).items() if column is not None})
    if to.suffix == ".csv":
        frame.to_csv(to, index=False)
    else:
        frame.to_parquet(to, index=False)
