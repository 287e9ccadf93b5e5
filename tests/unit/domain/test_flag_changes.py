"""What a rollout changes is what was laid over, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.engines.flag_changes import FlagChange, flag_changes, laid_over

names = st.sampled_from(["max-num-seqs", "kv-cache-dtype", "enforce-eager", "tensor-parallel-size"])
values = st.one_of(st.booleans(), st.integers(1, 9), st.sampled_from(["fp8", "auto"]))
flags = st.dictionaries(names, values)


@given(before=flags, changes=st.dictionaries(names, st.none() | values))
def test_laying_changes_over_flags_changes_those_and_no_other(
    before: dict[str, bool | int | str], changes: dict[str, bool | int | str | None]
) -> None:
    after = laid_over(before, changes)
    assert {each.flag for each in flag_changes(before, after)} <= set(changes)
    assert all(after.get(name) == value for name, value in changes.items())
    assert all(after[name] == value for name, value in before.items() if name not in changes)


@given(before=flags, after=flags)
def test_the_differences_lead_from_one_to_the_other(
    before: dict[str, bool | int | str], after: dict[str, bool | int | str]
) -> None:
    changes = {each.flag: each.after for each in flag_changes(before, after)}
    assert laid_over(before, changes) == after


def test_a_difference_reads_as_a_sentence_whatever_the_spelling() -> None:
    found = flag_changes({"max_num_seqs": 256, "enforce-eager": True}, {"max-num-seqs": 128, "quantization": "fp8"})
    assert found[1] == FlagChange("max-num-seqs", 256, 128)
    assert [str(each) for each in found] == [
        "enforce-eager: no longer set (was true)",
        "max-num-seqs: 256 → 128",
        "quantization: fp8 (was not set)",
    ]
