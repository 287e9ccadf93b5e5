"""How a gateway's files are named in the data folder: the gateway writes them, the control plane reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

_HOUR = "%Y%m%dT%H"
_DAY = "%Y%m%d"


def addresses_dir(data_dir: Path) -> Path:
    """Folder with one `<gateway>.json` (a GatewayAddress) per running gateway."""
    return data_dir / "gateways"


def table_path(data_dir: Path, gateway: str) -> Path:
    """Return the file that keeps the last good routing table of one gateway."""
    return data_dir / "gateways" / "tables" / f"{gateway}.json"


def sums_path(data_dir: Path, gateway: str) -> Path:
    """Return the file of what was used of the limits of days and months at one gateway that counts alone."""
    return data_dir / "gateways" / "sums" / f"{gateway}.json"


def salt_path(data_dir: Path) -> Path:
    """Return the file with the salt of the hashes in this installation's records."""
    return data_dir / "gateways" / "records.salt"


def records_dir(data_dir: Path) -> Path:
    """Folder of the request records, one file per gateway and hour."""
    return data_dir / "records"


def scores_dir(data_dir: Path) -> Path:
    """Folder of people's scores of answers, its files named as those of the records."""
    return data_dir / "feedback"


def judged_dir(data_dir: Path) -> Path:
    """Folder of what judge commands said of sampled answers, its files named as those of the records, by service."""
    return data_dir / "judged"


def records_name(gateway: str, at: datetime) -> str:
    """Name of the file that takes the records of requests *finished* at `at`."""
    return f"{gateway}-{at.astimezone(UTC).strftime(_HOUR)}.jsonl"


def records_hour(name: str) -> datetime | None:
    """Return the UTC hour a records file is for; None when the name is not one of a records file."""
    return _written(name, _HOUR)


def audit_dir(data_dir: Path) -> Path:
    """Folder of the audit logs, one file per gateway and day."""
    return data_dir / "audit"


def batches_dir(data_dir: Path) -> Path:
    """Folder of the files and batches that the gateways of a data folder share."""
    return data_dir / "batches"


def audit_name(gateway: str, at: datetime) -> str:
    """Name of the file that takes the entries written at `at`."""
    return f"{gateway}-{at.astimezone(UTC).strftime(_DAY)}.jsonl"


def audit_day(name: str) -> datetime | None:
    """Return the UTC day an audit file is for; None when the name is not one of an audit file."""
    return _written(name, _DAY)


def _written(name: str, form: str) -> datetime | None:
    stem, _, suffix = name.rpartition(".")
    if suffix != "jsonl":
        return None
    try:
        return datetime.strptime(stem.rpartition("-")[2], form).replace(tzinfo=UTC)
    except ValueError:
        return None


def audit_files(folder: Path, gateway: str) -> list[Path]:
    """Return a gateway's audit files, oldest first."""
    found = [path for path in folder.glob("*.jsonl") if audit_day(path.name) and _gateway_of(path) == gateway]
    return sorted(found)


def audited_gateways(folder: Path) -> list[str]:
    """Return the gateways that have audit files, in order."""
    return sorted({_gateway_of(path) for path in folder.glob("*.jsonl") if audit_day(path.name)})


def _gateway_of(path: Path) -> str:
    return path.stem.rpartition("-")[0]
