"""One suite for contents of files: on the disk, and in a bucket that speaks S3.

`FLEETUNE_TEST_S3_BUCKET=bucket` with the `AWS_*` variables of a real S3 runs it there in place of the fake.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from controlplane.gateway.batches.contents import Contents, DiskContents
from controlplane.gateway.batches.contents_s3 import PART_BYTES, S3Contents, open_s3
from tests.fakes.s3 import BUCKET, SECRET, FakeS3, fake_s3

FILE = "file-" + "a" * 24
REAL = "FLEETUNE_TEST_S3_BUCKET"


@pytest_asyncio.fixture(params=["disk", "s3"])
async def contents(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Contents]:
    if request.param == "disk":
        (tmp_path / "files").mkdir()
        yield DiskContents(tmp_path / "files")
    elif REAL in os.environ:
        yield open_s3(os.environ[REAL], f"tests/{os.getpid()}-{tmp_path.name}")
    else:
        async with fake_s3() as fake:
            yield of_fake(fake, monkeypatch)


def of_fake(fake: FakeS3, monkeypatch: pytest.MonkeyPatch, prefix: str = "p") -> S3Contents:
    for name, value in fake.environment().items():
        monkeypatch.setenv(name, value)
    return open_s3(BUCKET, prefix)


async def off(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call it as the gateway does: on a thread, so that the server in this loop can answer."""
    return await asyncio.to_thread(call, *arguments)


async def take(contents: Contents, tmp_path: Path, content: bytes, file_id: str = FILE) -> Path:
    path = tmp_path / "draft"
    path.write_bytes(content)
    await off(contents.take, file_id, path)
    return path


async def read(contents: Contents, file_id: str = FILE) -> bytes:
    return b"".join(await off(lambda: list(contents.pieces(file_id))))


@pytest.mark.parametrize("size", [0, 10, PART_BYTES * 2 + 5])
async def test_what_was_taken_is_read_again_and_its_draft_is_gone(
    contents: Contents, tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    assert not (await take(contents, tmp_path, content)).exists()
    assert await read(contents) == content
    fetched = await off(contents.fetch, FILE, tmp_path / "fetched")
    assert fetched.read_bytes() == content


async def test_taken_again_the_later_one_counts(contents: Contents, tmp_path: Path) -> None:
    await take(contents, tmp_path, b"one")
    await take(contents, tmp_path, b"two")
    assert await read(contents) == b"two"


async def test_what_is_not_there_is_not_found_and_may_be_deleted(contents: Contents, tmp_path: Path) -> None:
    for call in (lambda: contents.fetch(FILE, tmp_path / "fetched"), lambda: next(contents.pieces(FILE))):
        with pytest.raises(FileNotFoundError):
            await off(call)
    await off(contents.delete, FILE)
    await take(contents, tmp_path, b"x")
    await off(contents.delete, FILE)
    with pytest.raises(FileNotFoundError):
        await read(contents)
    assert not (tmp_path / "fetched").exists()


async def test_all_that_are_here_are_named(contents: Contents, tmp_path: Path) -> None:
    await take(contents, tmp_path, b"x")
    other = FILE.replace("a", "b")
    await take(contents, tmp_path, b"y", other)
    assert await off(contents.ids) == {FILE, other}
    await off(contents.delete, other)
    assert await off(contents.ids) == {FILE}


async def test_only_a_disk_has_it_here(contents: Contents, tmp_path: Path) -> None:
    await take(contents, tmp_path, b"x")
    here = contents.here(FILE)
    assert (here is not None and here.read_bytes() == b"x") is isinstance(contents, DiskContents)


async def test_an_upload_that_broke_off_leaves_nothing_and_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(PART_BYTES * 3)
    async with fake_s3() as fake:
        contents = of_fake(fake, monkeypatch)
        fake.breaks_at_part = 2
        with pytest.raises(OSError, match="does not answer as it should"):
            await take(contents, tmp_path, content)
        assert fake.objects == {}
        assert (tmp_path / "draft").read_bytes() == content
        fake.breaks_at_part = None
        await off(contents.take, FILE, tmp_path / "draft")
        assert fake.objects == {f"p/{FILE}.jsonl": content}


async def test_a_storage_that_fails_is_an_oserror_that_says_nothing_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fake_s3() as fake:
        contents = of_fake(fake, monkeypatch)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
        stranger = open_s3(BUCKET, "p")
        for call in (lambda: next(stranger.pieces(FILE)), stranger.ids, lambda: stranger.delete(FILE)):
            with pytest.raises(OSError, match="storage") as raised:
                await off(call)
            assert SECRET not in str(raised.value)
            assert fake.url not in str(raised.value)
        assert await off(contents.ids) == set()
