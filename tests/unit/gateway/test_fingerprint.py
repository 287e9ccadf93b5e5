"""Fingerprints: equal beginnings have equal hashes, nothing else does, and no text can be found again."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.errors import InvalidInput
from controlplane.gateway.fingerprint import BLOCK_BYTES, BLOCK_IDS, MOST_BLOCKS, Fingerprints, installation_salt

SALTED = Fingerprints(b"s" * 32)


def shared(first: dict[str, Any], second: dict[str, Any]) -> int:
    """Count the equal blocks at the beginning of two prompts."""
    one, other = SALTED.prompt(first).blocks, SALTED.prompt(second).blocks
    return sum(one[: n + 1] == other[: n + 1] for n in range(min(len(one), len(other))))


def said(*contents: object, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content} for content in contents], **fields}


def test_token_ids_share_the_whole_blocks_of_their_common_beginning() -> None:
    common = list(range(5 * BLOCK_IDS + 3))
    assert shared({"prompt": [*common, 7, *common]}, {"prompt": [*common, 8, *common]}) == 5
    assert SALTED.prompt({"prompt": common}).tokens == len(common)


def test_equal_blocks_behind_different_beginnings_are_different() -> None:
    block = list(range(BLOCK_IDS))
    assert (
        SALTED.prompt({"prompt": [1, *block[1:], *block]}).blocks[1]
        != SALTED.prompt({"prompt": [*block, *block]}).blocks[1]
    )


def test_a_growing_conversation_shares_all_it_had() -> None:
    first = said("a" * 1000)
    second = said("a" * 1000, "b" * 1000)
    assert shared(first, second) == len(SALTED.prompt(first).blocks) == 1005 // BLOCK_BYTES


def test_tools_stand_before_the_conversation() -> None:
    tools = [{"type": "function", "function": {"name": "n" * 500}}]
    assert shared(said("a" * 500, tools=tools), said("b" * 500, tools=tools)) >= 4
    assert shared(said("a" * 500, tools=tools), said("a" * 500)) == 0


def test_a_picture_counts_by_its_digest_not_by_its_bytes() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:" + "x" * 100_000}}
    found = SALTED.prompt(said([{"type": "text", "text": "what is this"}, picture]))
    assert found.text_bytes is not None
    assert found.text_bytes < 200


def test_requests_of_different_cache_salt_share_nothing() -> None:
    ids = list(range(100))
    assert shared({"prompt": ids}, {"prompt": ids, "cache_salt": "tenant"}) == 0


@pytest.mark.parametrize("given", [["a", "b"], [[1], [2]], [1, -1], [1, "a"], [1, 2**40], [], 5, None, [["a"]]])
def test_several_prompts_and_nonsense_have_no_blocks(given: object) -> None:
    assert SALTED.prompt({"prompt": given}).blocks == ()


def test_a_prompt_in_a_list_of_one_is_that_prompt() -> None:
    ids, text = list(range(100)), "word " * 100
    assert SALTED.prompt({"prompt": [ids]}) == SALTED.prompt({"prompt": ids})
    assert SALTED.prompt({"input": [text]}) == SALTED.prompt({"prompt": text})


def test_endless_prompts_have_a_bounded_number_of_blocks() -> None:
    assert len(SALTED.prompt({"prompt": "x" * (MOST_BLOCKS + 9) * BLOCK_BYTES}).blocks) == MOST_BLOCKS


@pytest.mark.parametrize("letter", ["x", "é", "漢", "👍", "\ud800"])
def test_what_lies_behind_the_last_block_is_counted_and_not_hashed(letter: str) -> None:
    written = len(letter.encode("utf-8", "surrogatepass"))
    text = letter * (MOST_BLOCKS * BLOCK_BYTES // written + 50)
    found, longer = SALTED.prompt({"prompt": text}), SALTED.prompt({"prompt": text + "more"})
    assert (found.text_bytes, longer.text_bytes) == (len(text) * written, len(text) * written + 4)
    assert len(found.blocks) == MOST_BLOCKS
    assert found.blocks == longer.blocks
    assert SALTED.prompt(said(text, "and " * 99)).text_bytes == len(text) * written + 4 * 99 + len("user\n\nuser\n")


def test_a_scope_is_no_part_of_the_text() -> None:
    text = "y" * 640
    moved = {"prompt": text, "cache_salt": "x" * BLOCK_BYTES}
    assert not set(SALTED.prompt(moved).blocks) & set(SALTED.prompt({"prompt": "x" * BLOCK_BYTES + text}).blocks)


def test_hashes_survive_json_and_depend_on_the_salt() -> None:
    blocks = SALTED.prompt({"prompt": "x" * 999}).blocks
    assert max(blocks) < 2**53
    assert json.loads(json.dumps(blocks)) == list(blocks)
    other = Fingerprints(b"t" * 32)
    assert not set(blocks) & set(other.prompt({"prompt": "x" * 999}).blocks)
    assert SALTED.session("alice") != other.session("alice")
    assert SALTED.session(None) is None


def test_a_block_of_text_has_the_tokens_the_engine_counted() -> None:
    found = SALTED.prompt({"prompt": "x" * 1280})
    assert found.block_tokens(320) == 16
    assert found.block_tokens(None) == 0
    assert SALTED.prompt({"prompt": [1] * 64}).block_tokens(None) == BLOCK_IDS


def test_the_salt_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "gateways" / "salt"
    salt = installation_salt(path)
    assert installation_salt(path) == salt
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["salt"]


def test_a_damaged_salt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "salt").write_bytes(b"short")
    with pytest.raises(InvalidInput, match="damaged"):
        installation_salt(tmp_path / "salt")
