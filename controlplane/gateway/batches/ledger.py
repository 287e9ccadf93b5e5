"""Who keeps how much on the shelf, counted before anything is written: by all gateways of a data folder together.

A place for an upload is taken under one lock, before its body is read, and noted in a file, so that uploads that come
at once cannot take the same place twice. One that a killed gateway took is given back when its hour is over.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from controlplane.domain.base import Value
from controlplane.domain.door.batch import Batch
from controlplane.domain.door.batch_quota import BatchQuota, Full, Kept, batch_refused, upload_refused
from controlplane.gateway.batches.shelf import Shelf
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.host.files import write_whole
from controlplane.host.locks import in_turn

UPLOAD_WITHIN_S = 3600.0
"""An upload takes no longer; so a place that is older is nobody's."""


def free_bytes_of(folder: Path) -> int:
    """Return what the disk of a folder has left for us."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class _Place(Value):
    """An upload under way."""

    tenant: str
    size_bytes: int
    until: float


@dataclass
class Ledger:
    """Counts one shelf. `wall_clock` gives aware UTC; `free_bytes` is what the disk of a folder has left."""

    shelf: Shelf
    quota: BatchQuota
    wall_clock: Callable[[], datetime]
    free_bytes: Callable[[Path], int] = free_bytes_of
    _files: dict[str, tuple[str, int]] = field(default_factory=dict)  # tenant and bytes, of each known file
    _ended: dict[str, str] = field(default_factory=dict)  # tenant, of each batch that ended

    def take_place(self, file_id: str, tenant: str, size_bytes: int) -> None:
        """Take a place for an upload of at most so many bytes. Raises RequestRefused (429, 507) and OSError."""
        with in_turn(self.shelf.root / "lock"):
            places = dict(self._places())
            coming = sum(place.size_bytes for place in places.values())
            full = upload_refused(
                self.quota,
                self._kept(places),
                tenant=tenant,
                size_bytes=size_bytes,
                free_bytes=self.free_bytes(self.shelf.root) - coming,
            )
            if full is not None:
                raise _refusal(full, self.quota)
            place = _Place(tenant=tenant, size_bytes=size_bytes, until=self._now() + UPLOAD_WITHIN_S)
            write_whole(self._place_path(file_id), place.model_dump_json())

    def give_back(self, file_id: str) -> None:
        """Give a place back: what was uploaded counts as a file from now on, or is not there."""
        self._place_path(file_id).unlink(missing_ok=True)

    @contextmanager
    def admitting(self, tenant: str) -> Iterator[None]:
        """Let nobody else give a batch while inside. Raises RequestRefused (429, 507) where one more is too many."""
        with in_turn(self.shelf.root / "lock"):
            own = [batch_id for batch_id, of in self._batches() if of == tenant]
            still_open = sum(batch_id not in self._ended for batch_id in own)
            free_bytes = self.free_bytes(self.shelf.root)
            full = batch_refused(self.quota, open_batches=still_open, batches=len(own), free_bytes=free_bytes)
            if full is not None:
                raise _refusal(full, self.quota)
            yield

    def has_room(self) -> bool:
        """Say whether the disk has more left than must stay free."""
        return self.free_bytes(self.shelf.root) >= self.quota.free_disk_bytes

    def _kept(self, places: dict[str, _Place]) -> dict[str, Kept]:
        """Return what each tenant keeps: files, what batches have answered so far, and the places given."""
        sizes: dict[str, list[int]] = defaultdict(list)
        for file_id, (tenant, size) in self._known_files():
            if file_id not in places:
                sizes[tenant].append(size)
        for place in places.values():
            sizes[place.tenant].append(place.size_bytes)
        journals: dict[str, int] = defaultdict(int)
        for batch_id, tenant in self._batches():
            journals[tenant] += 0 if batch_id in self._ended else _size(self.shelf.folder_of(batch_id) / "journal")
        return {
            tenant: Kept(sum(sizes[tenant]) + journals[tenant], len(sizes[tenant]))
            for tenant in sizes.keys() | journals.keys()
        }

    def _known_files(self) -> Iterator[tuple[str, tuple[str, int]]]:
        ids = self.shelf.file_ids()
        self._files = {file_id: known for file_id, known in self._files.items() if file_id in ids}
        for file_id in ids:
            if file_id not in self._files and (stored := self.shelf.any_file(file_id)) is not None:
                self._files[file_id] = (stored.tenant, stored.size)
        yield from self._files.items()

    def _batches(self) -> Iterator[tuple[str, str]]:
        """Yield all batches with their tenants; those that ended are read once."""
        ids = self.shelf.batch_ids()
        self._ended = {batch_id: tenant for batch_id, tenant in self._ended.items() if batch_id in ids}
        for batch_id in ids:
            batch: Batch | None = None if batch_id in self._ended else self.shelf.batch(batch_id)
            if batch is not None and batch.has_ended:
                self._ended[batch_id] = batch.tenant
            if batch is not None or batch_id in self._ended:
                yield batch_id, batch.tenant if batch is not None else self._ended[batch_id]

    def _places(self) -> Iterator[tuple[str, _Place]]:
        """Yield the uploads under way; a place whose time is over is taken away."""
        for path in list(self.shelf.uploads.glob("*.json")):
            with suppress(FileNotFoundError, ValidationError):
                place = _Place.model_validate_json(path.read_bytes())
                if place.until > self._now():
                    yield path.stem, place
                    continue
            path.unlink(missing_ok=True)

    def _place_path(self, file_id: str) -> Path:
        return self.shelf.uploads / f"{file_id}.json"

    def _now(self) -> float:
        return self.wall_clock().timestamp()


def _refusal(full: Full, quota: BatchQuota) -> RequestRefused:
    """Say which bound it is: a tenant's own (429), or that of all and of the disk (507)."""
    told = {
        Full.TENANT_BYTES: f"Your files and results may be {quota.tenant_bytes} bytes: delete some first.",
        Full.TENANT_FILES: f"You may keep {quota.tenant_files} files: delete some first.",
        Full.TENANT_OPEN_BATCHES: f"You may have {quota.tenant_open_batches} batches that have not ended.",
        Full.TENANT_BATCHES: f"You may have {quota.tenant_batches} batches: the oldest go when their time is over.",
        Full.ALL_BYTES: "There is no place for more files now.",
        Full.DISK: "There is no place for more files now.",
    }
    own = full not in (Full.ALL_BYTES, Full.DISK)
    status, code = (429, "insufficient_quota") if own else (507, "insufficient_storage")
    return RequestRefused(status, told[full], code=code)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
