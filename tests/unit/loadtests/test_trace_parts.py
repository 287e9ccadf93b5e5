"""Cutting a trace: what is searched on and what is held out share no row."""

from __future__ import annotations

from controlplane.domain.workload import TracePart
from loadtests.send.schedule import part_of
from loadtests.send.traces import load_trace


def test_search_and_held_out_parts_are_the_whole_trace_without_overlap() -> None:
    whole = load_trace("azure-llm-2023/conv")
    searched, held_out = part_of(whole, TracePart.SEARCH), part_of(whole, TracePart.HELD_OUT)
    assert len(searched) + len(held_out) == len(whole)
    assert [*searched.prompt_tokens, *held_out.prompt_tokens] == [*whole.prompt_tokens]
    assert held_out.arrival_s[0] == 0


def test_the_whole_trace_is_left_as_it_is() -> None:
    whole = load_trace("azure-llm-2023/code")
    assert part_of(whole, TracePart.ALL) is whole
