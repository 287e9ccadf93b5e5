"""What may be kept of batches: each bound by itself."""

from __future__ import annotations

import pytest

from controlplane.domain.door.batch_quota import BatchQuota, Full, Kept, batch_refused, upload_refused

QUOTA = BatchQuota(
    tenant_bytes=100, all_bytes=150, tenant_files=3, tenant_open_batches=2, tenant_batches=5, free_disk_bytes=50
)


@pytest.mark.parametrize(
    ("own", "others", "size_bytes", "free_bytes", "full"),
    [
        (Kept(90, 1), Kept(40, 9), 10, 60, None),
        (Kept(90, 1), Kept(), 11, 1000, Full.TENANT_BYTES),
        (Kept(0, 3), Kept(), 1, 1000, Full.TENANT_FILES),
        (Kept(50, 1), Kept(90, 1), 11, 1000, Full.ALL_BYTES),
        (Kept(), Kept(), 10, 59, Full.DISK),
    ],
)
def test_an_upload_keeps_to_every_bound(
    own: Kept, others: Kept, size_bytes: int, free_bytes: int, full: Full | None
) -> None:
    kept = {"a": own, "b": others}
    assert upload_refused(QUOTA, kept, tenant="a", size_bytes=size_bytes, free_bytes=free_bytes) is full


def test_who_keeps_nothing_yet_is_bound_too() -> None:
    assert upload_refused(QUOTA, {}, tenant="new", size_bytes=101, free_bytes=1000) is Full.TENANT_BYTES
    assert upload_refused(QUOTA, {}, tenant="new", size_bytes=100, free_bytes=1000) is None


@pytest.mark.parametrize(
    ("open_batches", "batches", "free_bytes", "full"),
    [
        (1, 4, 50, None),
        (2, 4, 50, Full.TENANT_OPEN_BATCHES),
        (1, 5, 50, Full.TENANT_BATCHES),
        (1, 4, 49, Full.DISK),
    ],
)
def test_a_batch_keeps_to_every_bound(open_batches: int, batches: int, free_bytes: int, full: Full | None) -> None:
    assert batch_refused(QUOTA, open_batches=open_batches, batches=batches, free_bytes=free_bytes) is full
