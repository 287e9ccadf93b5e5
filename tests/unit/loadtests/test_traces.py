"""Traces: shipped ones, other formats, and files that are partly or wholly broken."""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path

import pytest

from controlplane.domain.errors import InvalidInput
from controlplane.domain.workload import TraceWorkload
from loadtests.send.cutting import cut_rows
from loadtests.send.schedule import build_schedule
from loadtests.send.trace_rows import Columns, TimeUnit
from loadtests.send.traces import SHIPPED, load_trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(("name", "requests"), [("azure-llm-2023/conv", 19366), ("azure-llm-2023/code", 8819)])
def test_shipped_traces_are_whole_and_say_whom_to_cite(name: str, requests: int) -> None:
    trace = load_trace(name)
    assert (len(trace), trace.broken) == (requests, 0)
    assert trace.arrival_s[0] == 0
    assert (trace.arrival_s[1:] >= trace.arrival_s[:-1]).all()
    assert "Splitwise" in trace.citation
    assert name in SHIPPED


def test_broken_rows_are_counted_and_the_first_is_shown(tmp_path: Path) -> None:
    good = "".join(f"2023-11-16 18:00:{i:02d},100,10\n" for i in range(40))
    name = write(tmp_path / "t.csv", AZURE + good + "2023-11-16 18:01:00,-5,10\nnever,1,1\n")
    trace = load_trace(name)
    assert (len(trace), trace.broken) == (40, 2)
    assert trace.first_broken.startswith("line 42: ContextTokens is '-5'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (AZURE, "no rows"),
        (AZURE + "soon,1,1\n", "1 of 1 rows are broken; first: line 2: TIMESTAMP is 'soon'"),
        ("when,in,out\n1,2,3\n", "unknown columns: found in, out, when"),
        ("", "is empty"),
        ('{"a": 1}\n', "unknown columns: found a"),
    ],
)
def test_unusable_traces_are_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match="trace") as refused:
        load_trace(write(tmp_path / "t.csv", text))
    assert message in str(refused.value)


def test_missing_file_names_the_shipped_ones() -> None:
    with pytest.raises(InvalidInput, match="azure-llm-2023/conv"):
        load_trace("no/such/trace")


def test_mooncake_blocks_are_kept(tmp_path: Path) -> None:
    rows = [{"timestamp": 1000 * i, "input_length": 600, "output_length": 5, "hash_ids": [0, i + 1]} for i in range(3)]
    trace = load_trace(write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, rows))))
    assert trace.blocks == ((0, 1), (0, 2), (0, 3))
    assert (trace.block_tokens, trace.duration_s) == (512, 2.0)


def test_burstgpt_sessions_are_numbered(tmp_path: Path) -> None:
    text = "Timestamp,Session ID,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    text += "5,a,ChatGPT,10,20,30,Conversation log\n6,b,GPT-4,11,21,32,API log\n9,a,ChatGPT,12,22,34,API log\n"
    trace = load_trace(write(tmp_path / "b.csv", text))
    assert trace.session is not None
    assert trace.session.tolist() == [0, 1, 0]
    assert trace.tenants == ("ChatGPT", "GPT-4", "ChatGPT")


def test_any_csv_works_with_a_column_map_and_gzip(tmp_path: Path) -> None:
    path = tmp_path / "own.csv.gz"
    path.write_bytes(gzip.compress(b"at_ms,in,out\n2000,7,8\n1000,5,6\n"))
    trace = load_trace(str(path), Columns("at_ms", "in", "out", unit="ms"))
    assert trace.prompt_tokens.tolist() == [5, 7]
    assert trace.arrival_s.tolist() == [0.0, 1.0]
    with pytest.raises(InvalidInput, match="no column nope"):
        load_trace(str(path), Columns("nope", "in", "out"))


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    name = write(tmp_path / "t.csv", AZURE + "2023-11-16 18:00:00,1,1\n")
    assert len(load_trace(name)) == 1
    write(tmp_path / "t.csv", AZURE + "2023-11-16 18:00:00,1,1\n2023-11-16 18:00:01,1,1\n")
    os.utime(name, (2_000_000_000, 2_000_000_000))
    assert len(load_trace(name)) == 2


CSV_LINES = ("TIMESTAMP,ContextTokens,GeneratedTokens,text", "2023-11-16 18:00:00,10,5,a", "2023-11-16 18:00:01,20,6,b")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("last", [True, False])
def test_a_line_may_end_in_any_of_the_three_ways(tmp_path: Path, end: str, last: bool) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes((end.join(CSV_LINES) + (end if last else "")).encode())
    assert load_trace(str(path)).prompt_tokens.tolist() == [10, 20]


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_text_column_may_hold_what_unicode_takes_for_a_line_end(tmp_path: Path, odd: str, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    if kind == "csv":
        path.write_text("\n".join([CSV_LINES[0], *(f'{line[:-1]}"a{odd}b"' for line in CSV_LINES[1:])]))
    else:
        rows = ({"timestamp": 1000 * i, "input_length": 10 * i, "output_length": 5, "x": f"a{odd}b"} for i in (1, 2))
        path.write_text("\n".join(json.dumps(row, ensure_ascii=ord(odd) < 0x20) for row in rows))
    found = load_trace(str(path))
    assert (found.prompt_tokens.tolist(), found.broken) == ([10, 20], 0)


def test_a_text_column_may_be_of_any_length_and_the_usual_limit_stays(tmp_path: Path) -> None:
    usual, path = csv.field_size_limit(), tmp_path / "t.csv"
    path.write_text("\n".join([*CSV_LINES, f"2023-11-16 18:00:02,30,7,{'x' * (2 * usual)}"]))
    assert load_trace(str(path)).prompt_tokens.tolist() == [10, 20, 30]
    assert csv.field_size_limit() == usual


@pytest.mark.parametrize(
    ("limits", "cut"),
    [({}, 0), ({"max_prompt_tokens": 15}, 1), ({"max_output_tokens": 5}, 1), ({"max_prompt_tokens": 5}, 2)],
)
def test_rows_longer_than_the_workload_allows_are_counted_and_refused_beyond_a_share(
    tmp_path: Path, limits: dict[str, int], cut: int
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(CSV_LINES))
    workload = TraceWorkload(trace=str(path), **limits)
    assert cut_rows(workload, load_trace(str(path))).cut == cut
    if cut:
        with pytest.raises(InvalidInput, match="is not what would be sent") as refused:
            build_schedule(workload, rate_rps=5, duration_s=1, seed=0)
        assert "max_prompt_tokens 20 and max_output_tokens 6" in str(refused.value)
    accepting = workload.evolve(max_cut_share=1)
    assert len(build_schedule(accepting, rate_rps=50, duration_s=1, seed=0))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_trace_is_sent_with_the_limits_there_are(name: str) -> None:
    assert len(build_schedule(TraceWorkload(trace=name), rate_rps=50, duration_s=1, seed=0))


@pytest.mark.parametrize(
    ("unit", "moment", "says"),
    [
        ("s", "2026-11-03T09:00:00Z", "not a number of seconds; --columns arrival,prompt,output,iso reads it"),
        ("iso", "1.5", "not an ISO 8601 moment; --columns arrival,prompt,output,s reads it"),
        ("ms", "yesterday", "not a number of milliseconds"),
    ],
)
def test_moments_of_another_unit_are_refused_with_the_unit_that_reads_them(
    tmp_path: Path, unit: TimeUnit, moment: str, says: str
) -> None:
    name = write(tmp_path / "t.csv", f"when,in,out\n{moment},2,3\n")
    with pytest.raises(InvalidInput, match=r"not a") as refused:
        load_trace(name, Columns("when", "in", "out", unit=unit))
    assert f"{says} (allowed" in str(refused.value)


def test_a_trace_that_is_not_there_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="cannot read trace") as refused:
        load_trace("mine.csv")
    assert refused.value.why == f"{tmp_path}/mine.csv: No such file or directory"
