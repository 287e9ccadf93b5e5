"""Places for uploads: counted over everybody who shares a shelf, never given twice, never lost for ever."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from controlplane.domain.door.batch import Batch, BatchStatus, StoredFile
from controlplane.domain.door.batch_quota import BatchQuota
from controlplane.domain.door.identity import Principal, Scope
from controlplane.gateway.batches.journal import Done, Journal
from controlplane.gateway.batches.ledger import UPLOAD_WITHIN_S, Ledger
from controlplane.gateway.batches.shelf import Shelf
from controlplane.gateway.openai_errors import RequestRefused
from tests.remembering import grown, remembered

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


def ledger(root: Path, *, now: Callable[[], datetime] = lambda: START, free: int = 1 << 40, **quota: int) -> Ledger:
    return Ledger(Shelf(root), BatchQuota(**quota), now, free_bytes=lambda folder: free)


def stored(book: Ledger, size: int, *, tenant: str = "a", at: datetime = START) -> StoredFile:
    """Put a file on the shelf."""
    file = StoredFile(
        file_id=book.shelf.new_id("file"),
        tenant=tenant,
        filename="in.jsonl",
        purpose="batch",
        size=size,
        created_at=int(at.timestamp()),
    )
    book.shelf.write_content(file.file_id, [b"x" * size])
    book.shelf.put_file(file)
    return file


def given(book: Ledger, status: BatchStatus = BatchStatus.IN_PROGRESS, *, tenant: str = "a") -> Batch:
    """Put a batch on the shelf."""
    who = Principal(name=tenant, tenant=tenant, scopes=frozenset({Scope.INFER}))
    batch = Batch(
        batch_id=book.shelf.new_id("batch"),
        principal=who,
        endpoint="/v1/completions",
        input_file_id="file-" + "0" * 24,
        created_at=int(START.timestamp()),
        ended_at=int(START.timestamp()),
        status=status,
    )
    book.shelf.put_batch(batch)
    return batch


def status_of(take: Callable[[], None]) -> int:
    """Return 200, or what the refusal says."""
    try:
        take()
    except RequestRefused as refusal:
        return refusal.status
    return 200


def asks(book: Ledger, size: int, tenant: str = "a") -> int:
    return status_of(lambda: book.take_place(book.shelf.new_id("file"), tenant, size))


def test_uploads_at_once_over_two_gateways_never_take_one_place_twice(tmp_path: Path) -> None:
    books = [ledger(tmp_path, tenant_bytes=30) for _ in range(2)]
    together = Barrier(8)

    def one(number: int) -> int:
        together.wait()
        return asks(books[number % 2], 10)

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(one, range(8))) == [200] * 3 + [429] * 5


def test_files_results_and_answers_so_far_count_for_their_tenant(tmp_path: Path) -> None:
    book = ledger(tmp_path, tenant_bytes=100, all_bytes=150)
    stored(book, 60)
    journal = Journal(book.shelf.folder_of(given(book).batch_id) / "journal")
    journal.add(Done(1, True, b"x" * 25))  # 30 bytes with its number
    journal.close()
    assert (asks(book, 11), asks(book, 10)) == (429, 200)
    assert (asks(book, 51, tenant="b"), asks(book, 50, tenant="b")) == (507, 200)


def test_a_place_is_given_back_and_a_deleted_file_counts_no_more(tmp_path: Path) -> None:
    book = ledger(tmp_path, tenant_files=2)
    kept, place = stored(book, 1), book.shelf.new_id("file")
    book.take_place(place, "a", 1)
    assert asks(book, 1) == 429
    book.give_back(place)
    book.shelf.delete_file(kept.file_id)
    assert (asks(book, 1), asks(book, 1), asks(book, 1)) == (200, 200, 429)


def test_an_upload_that_ended_counts_once_while_its_place_is_still_there(tmp_path: Path) -> None:
    book = ledger(tmp_path, tenant_bytes=30)
    file = stored(book, 10)
    book.take_place(file.file_id, "a", 20)
    assert (asks(book, 11), asks(book, 10)) == (429, 200)


def test_the_place_of_a_killed_gateway_comes_back_and_so_does_what_it_wrote(tmp_path: Path) -> None:
    moment = [START]
    book = ledger(tmp_path, now=lambda: moment[0], tenant_files=1)
    assert (asks(book, 1), asks(book, 1)) == (200, 429)
    left = book.shelf.draft_path(book.shelf.new_id("file"))
    left.write_bytes(b"half")
    unknown = book.shelf.new_id("file")
    book.shelf.write_content(unknown, [b"of a finish that was killed"])
    moment[0] = START + timedelta(seconds=UPLOAD_WITHIN_S + 1)
    assert asks(book, 1) == 200
    book.shelf.prune(0, now_s=100, lies_s=60)
    book.shelf.prune(0, now_s=159, lies_s=60)
    assert left.exists()
    assert book.shelf.contents.ids() == {unknown}
    book.shelf.prune(0, now_s=160, lies_s=60)
    assert not left.exists()
    assert book.shelf.contents.ids() == set()


@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_an_upload_that_goes_on_is_not_left_whatever_the_disk_s_clock_says(tmp_path: Path, step_s: float) -> None:
    book = ledger(tmp_path)
    under_way = book.shelf.draft_path(book.shelf.new_id("file"))
    for look in range(20):
        with under_way.open("ab") as file:
            file.write(b"more")
        set_to = START.timestamp() + 600 * look + step_s
        os.utime(under_way, (set_to, set_to))
        book.shelf.prune(0, now_s=600.0 * look, lies_s=UPLOAD_WITHIN_S)
        assert under_way.exists()


def test_the_disk_keeps_what_must_stay_free_beside_the_uploads_under_way(tmp_path: Path) -> None:
    book = ledger(tmp_path, free=100, free_disk_bytes=50)
    assert (asks(book, 30), asks(book, 21), asks(book, 20)) == (200, 507, 200)
    assert book.has_room()
    assert not ledger(tmp_path, free=49, free_disk_bytes=50).has_room()


def test_open_batches_and_all_of_them_are_bounded(tmp_path: Path) -> None:
    book = ledger(tmp_path, tenant_open_batches=1, tenant_batches=3)

    def admitted(tenant: str = "a") -> int:
        def give() -> None:
            with book.admitting(tenant):
                given(book, tenant=tenant)

        return status_of(give)

    given(book, BatchStatus.COMPLETED)
    assert (admitted(), admitted(), admitted("b")) == (200, 429, 200)
    for batch in book.shelf.waiting():
        book.shelf.put_batch(batch.evolve(status=BatchStatus.FAILED))
    assert (admitted(), admitted()) == (200, 429)


def test_what_is_too_old_is_deleted_but_not_what_a_batch_still_reads(tmp_path: Path) -> None:
    book, old = ledger(tmp_path), START - timedelta(days=2)
    gone, read, young = stored(book, 1, at=old), stored(book, 1, at=old), stored(book, 1)
    book.shelf.put_batch(given(book).evolve(input_file_id=read.file_id))
    ended = given(book, BatchStatus.COMPLETED)
    book.shelf.prune(START.timestamp() - 60, now_s=0, lies_s=60)
    assert book.shelf.file_ids() == {read.file_id, young.file_id}
    assert gone.file_id not in book.shelf.contents.ids()
    book.shelf.prune(START.timestamp() + 60, now_s=0, lies_s=60)
    assert book.shelf.batch(ended.batch_id) is None
    assert book.shelf.file_ids() == {read.file_id}


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_a_place_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    book = ledger(tmp_path, tenant_files=1)
    (tmp_path / "uploads" / "file-1.json").write_bytes(content)
    assert asks(book, 1) == 200


def test_batches_that_are_gone_leave_nothing_behind(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    told = []
    for _ in range(3):
        for _ in range(5):
            given(book, BatchStatus.COMPLETED)
        assert not book.shelf.waiting()
        told.append(remembered(book))
        book.shelf.prune(START.timestamp() + 1, now_s=0, lies_s=60)
    assert told[0].total() >= 5
    assert grown(told[0], told[-1]) == {}
