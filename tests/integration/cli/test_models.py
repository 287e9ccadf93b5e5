"""What people do with model versions on the command line: what a bucket holds is noted, and known again."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.s3 import BUCKET, FakeS3, fake_s3
from tests.integration.cli.conftest import Fleetune

ServiceFile = Callable[..., str]
SOURCE = f"s3://{BUCKET}/llama-3"


@pytest.fixture
def chat(fleetune: Fleetune, service_file: ServiceFile) -> str:
    """A registered service that serves nothing yet."""
    code, said = fleetune("service", "register", "-f", service_file())
    assert code == 0, said
    return "chat"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    """A bucket with a model in two files, served by a thread, and its credentials in the environment."""
    up, over = threading.Event(), asyncio.Event()
    found: list[tuple[FakeS3, asyncio.AbstractEventLoop]] = []

    async def serve() -> None:
        async with fake_s3() as fake:
            found.append((fake, asyncio.get_running_loop()))
            up.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert up.wait(240)
    fake, loop = found[0]
    for name, value in fake.environment().items():
        monkeypatch.setenv(name, value)
    for key, content in {"llama-3/config.json": b"{}", "llama-3/model.safetensors": b"weights", "other": b"x"}.items():
        fake._keep(key, content)
    yield fake
    loop.call_soon_threadsafe(over.set)
    thread.join()


def test_what_lies_in_a_bucket_is_noted_when_registered_and_known_again(fleetune: Fleetune, bucket: FakeS3) -> None:
    code, said = fleetune("model", "register", "llama", SOURCE)
    assert (code, "(etags:" in said) == (0, True)
    bucket._keep("other", b"another model's")
    assert fleetune("model", "verify", "llama", "1") == (0, f"llama version 1: {SOURCE} is what was registered\n")
    assert not [path for method, path in bucket.asked if "model.safetensors" in path], "no weights were read"


@pytest.mark.parametrize("change", ["replaced", "added", "removed"])
def test_what_was_changed_in_the_bucket_is_one_message_and_is_not_served(
    change: str, fleetune: Fleetune, bucket: FakeS3, chat: str
) -> None:
    fleetune("model", "register", "llama", SOURCE)
    match change:
        case "replaced":
            bucket._keep("llama-3/model.safetensors", b"WEIGHTS")  # as long as before
        case "added":
            bucket._keep("llama-3/more.safetensors", b"weights")
        case _:
            del bucket.objects["llama-3/config.json"]
    for words in (["verify", "llama", "latest"], ["serve", "llama", "latest", "--service", chat]):
        code, said = fleetune("model", *words)
        assert code == 2
        assert said.startswith(f"error: {SOURCE} is not what it should be: its digest is etags:")
        assert said.count("\n") == 1
    code, said = fleetune("service", "show", chat, "-o", "json")
    assert SOURCE not in said


def test_a_digest_that_was_given_is_held_against_the_bucket(fleetune: Fleetune, bucket: FakeS3) -> None:
    code, said = fleetune("model", "register", "llama", SOURCE, "--digest", f"etags:{'0' * 64}")
    assert (code, "is not what it should be" in said) == (2, True)
    code, said = fleetune("model", "register", "llama", SOURCE, "--digest", f"sha256:{'0' * 64}")
    assert (code, "(sha256:" in said) == (0, True)
    code, said = fleetune("model", "verify", "llama", "1")
    assert (code, "its digest was given, of files' content, which nothing reads there" in said) == (2, True)


def test_a_bucket_that_does_not_answer_is_said_and_keeps_nobody_from_registering(
    fleetune: Fleetune, bucket: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    code, said = fleetune("model", "register", "llama", SOURCE)
    assert (code, "registered without a digest: the store of" in said) == (0, True)
    assert "planted" not in said
    code, said = fleetune("model", "verify", "llama", "1")
    assert (code, said.startswith("error: llama version 1 has no digest")) == (2, True)


def test_a_folder_that_is_elsewhere_is_not_called_verified(fleetune: Fleetune, tmp_path: Path) -> None:
    folder = tmp_path / "llama-3"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    fleetune("model", "register", "llama", str(folder))
    assert fleetune("model", "verify", "llama", "1")[0] == 0
    folder.rename(tmp_path / "moved")
    assert fleetune("model", "verify", "llama", "1") == (
        2,
        f"error: {folder} is not here (allowed: ask where the folder is)\n",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("model serve lama 1 --service chat", "no model 'lama' (allowed: llama)"),
        ("model show lama", "no model 'lama' (allowed: llama)"),
        ("model serve llama 7 --service chat", "llama has no version '7' (allowed: 1)"),
        ("model alias llama 7 1", "'7' is no alias (allowed: a-z, 0-9"),
        ("model register Llama /x", "'Llama' is no name of a model (allowed: a-z, 0-9"),
        ("model register llama {folder} --digest md5:abc", "'md5:abc' is no digest (allowed: sha256: or etags:"),
        ("roll-back chat --to rev-0", "no revision 'rev-0' (allowed: rev-"),
        ("adapter load chat Bad {folder}", "'Bad' is no name of an adapter (allowed: a-z, 0-9"),
        (
            "adapter load chat sql {folder}",
            'describes no LoRA adapter: its rank `r` is "many" (allowed: a whole number',
        ),
        (
            "adapter load chat sql {other}",
            "is of another model: it was made for mistral-7b (allowed: one made for llama-8b)",
        ),
        ("adapter load chat sql {large}", "is too large: its rank is 64 (allowed: max-lora-rank of stable, 16)"),
        ("model fetch m 1 --to {folder} --mlflow-url http://127.0.0.1:9", "does not answer: nobody listens there"),
    ],
)
def test_what_cannot_be_is_one_message_that_says_what_can(
    words: str, said: str, fleetune: Fleetune, service_file: ServiceFile, tmp_path: Path
) -> None:
    engine = {"flags": {"enable-lora": True}, "env": {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}, "kind": "emulator"}
    assert fleetune("service", "register", "-f", service_file(engine=engine))[0] == 0
    assert fleetune("model", "register", "llama", "org/llama")[0] == 0
    folders = {
        "folder": _adapter(tmp_path / "a", r="many"),
        "other": _adapter(tmp_path / "b", r=8, base_model_name_or_path="mistral-7b"),
        "large": _adapter(tmp_path / "c", r=64),
    }
    code, output = fleetune(*words.format(**folders).split())
    assert (code, output.count("\n")) == (2, 1)
    assert said in output


def test_a_folder_that_is_not_here_is_taken_and_said(fleetune: Fleetune, service_file: ServiceFile) -> None:
    engine = {"flags": {"enable-lora": True}, "env": {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}, "kind": "emulator"}
    fleetune("service", "register", "-f", service_file(engine=engine))
    for words in ("model register llama /there/llama", "adapter load chat sql /there/sql"):
        code, output = fleetune(*words.split())
        assert code == 0
        assert "is not on this host, so nothing of it was checked; engines must have it" in output


def _adapter(folder: Path, **config: object) -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return str(folder)
