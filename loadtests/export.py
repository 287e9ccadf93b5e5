"""Records as CSV or Parquet, for pandas."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from controlplane.domain.errors import InvalidInput
from loadtests.records import read_records


def export_records(records_path: Path, to: Path) -> None:
    """Write the records to `to`, .csv or .parquet by its name; latencies that do not exist stay empty.

    Raises InvalidInput for any other ending.
    """
    table = read_records([records_path])
    frame = pd.DataFrame({name: column for name, column in vars(table).items() if column is not None})
    match to.suffix:
        case ".csv":
            frame.to_csv(to, index=False)
        case ".parquet":
            frame.to_parquet(to, index=False)
        case other:
            raise InvalidInput(f"cannot write records as '{other}'", allowed=".csv, .parquet")
