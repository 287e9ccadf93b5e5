"""Two runs compared, prompts of exact token length, and records exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from controlplane.domain.errors import InvalidInput
from loadtests.measure.compare import Comparison, _percentiles, compare_runs
from loadtests.measure.intervals import PERCENTILES
from loadtests.report.export import export_records
from loadtests.report.html import report_page
from loadtests.report.plots import log_axis
from loadtests.report.report import build_report
from loadtests.send.plan import Api, parse_target
from loadtests.send.tokenized import words_for
from loadtests.send.words import COMMON_WORDS
from tests.unit.loadtests.test_report import RUN, table

NONE = (np.nan,) * len(PERCENTILES)


def rows(first_ms: float, second_ms: float, *, seed: int = 0) -> dict[str, Comparison]:
    rng = np.random.default_rng(seed)
    common = rng.lognormal(0, 0.5, 800)  # what the workload itself varies
    runs = [table(800, ttft_ms=base * common + rng.normal(0, 1, 800)) for base in (first_ms, second_ms)]
    return {row.name: row for row in compare_runs(*runs)}


def test_a_real_difference_is_outside_its_interval() -> None:
    found = rows(100, 110)["P50 TTFT ms"]
    assert found.paired
    assert found.low > 0
    assert found.difference == pytest.approx(10, abs=2)


def test_no_difference_is_within_its_interval_nearly_always() -> None:
    told = 0
    for seed in range(20):
        found = rows(100, 100, seed=seed)["P90 TTFT ms"]
        told += not found.low <= 0 <= found.high
    assert told <= 4  # 5 % of 20 is 1; the chance of more than 4 is below 0.3 %


def test_pairing_the_same_schedule_is_sharper() -> None:
    rng = np.random.default_rng(1)
    common = rng.lognormal(0, 0.5, 800)
    first, second = table(800, ttft_ms=100 * common), table(800, ttft_ms=103 * common)
    shifted = table(800, ttft_ms=103 * common, scheduled_s=np.arange(800) * 0.1 + 5)
    paired, unpaired = compare_runs(first, second)[0], compare_runs(first, shifted)[0]
    assert (paired.paired, unpaired.paired) == (True, False)
    assert paired.high - paired.low < unpaired.high - unpaired.low


def test_percentiles_of_resamples_are_numpys_of_what_is_known_in_each() -> None:
    rng = np.random.default_rng(2)
    rows = rng.lognormal(0, 1, (30, 101))
    rows[rng.random(rows.shape) < 0.3] = np.nan
    rows[3], rows[4, 1:] = np.nan, np.nan  # nothing is known; one value
    expected = [np.percentile(row[~np.isnan(row)], PERCENTILES) if not np.isnan(row).all() else NONE for row in rows]
    assert _percentiles(rows) == pytest.approx(np.array(expected), rel=1e-12, nan_ok=True)


def test_page_holds_figures_and_says_invalid() -> None:
    records = table(300, lag_ms=60.0)
    page = report_page(build_report(RUN, records, np.full(5, 10.0)), records, title="a <test>")
    assert "a &lt;test&gt;" in page
    assert "Invalid:" in page
    assert "<title>INVALID" in page


def test_page_plots_the_warm_up_over_time_only() -> None:
    records = table(300, scheduled_s=np.arange(300) * 0.1)
    report = build_report(RUN, records, np.full(5, 10.0))
    assert "warm-up" in report_page(report, records, title="t", warmup_s=5)
    assert "warm-up" not in report_page(report, records, title="t")


def test_every_tick_of_a_logarithmic_axis_has_its_whole_number() -> None:
    axis = log_axis(np.array([30.0, np.nan, 4000.0]), np.array([0]))
    assert " ".join(axis["ticktext"]) == "10 20 50 100 200 500 1,000 2,000 5,000 10,000 20,000 50,000"
    assert log_axis(np.array([2.0, 900_000.0]))["ticktext"][-2:] == ["100,000", "1e+06"]
    assert log_axis(np.array([np.nan])) == {"type": "log"}


@pytest.mark.parametrize("name", ["r.csv", "r.parquet"])
def test_records_are_exported_for_pandas(tmp_path: Path, name: str) -> None:
    line = (
        '{"index":0,"scheduled_s":0.5,"lag_ms":0.1,"prompt_tokens":3,"output_tokens":2,"wanted_tokens":2,"ttft_ms":null,'
        '"tpot_ms":null,"e2e_ms":null,"max_itl_ms":null,"status":0,"error":"connect","cancelled":false,"blur_ms":0.0}\n'
    )
    (tmp_path / "records.jsonl").write_text(line)
    export_records(tmp_path / "records.jsonl", tmp_path / name)
    frame = pd.read_csv(tmp_path / name) if name.endswith("csv") else pd.read_parquet(tmp_path / name)
    assert frame.loc[0, "error"] == "connect"
    assert frame["ttft_ms"].isna().all()
    with pytest.raises(InvalidInput, match=r"allowed: \.csv"):
        export_records(tmp_path / "records.jsonl", tmp_path / "r.xlsx")


def tokenizer_file(path: Path, words: list[str]) -> str:
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(path))
    return str(path)


def test_words_of_a_tokenizer_are_one_token_each(tmp_path: Path) -> None:
    words = words_for(tokenizer_file(tmp_path / "tokenizer.json", list(COMMON_WORDS)), Api.CHAT)
    assert words.exact
    assert words.words is not None
    assert len(words.words) >= 50


def test_missing_and_unfit_tokenizers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        words_for(str(tmp_path / "none.json"), Api.CHAT)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InvalidInput, match="cannot be read"):
        words_for(str(tmp_path / "broken.json"), Api.CHAT)
    with pytest.raises(InvalidInput, match="plain words"):
        words_for(tokenizer_file(tmp_path / "few.json", ["alpha", "beta"]), Api.CHAT)


def test_prompts_are_token_ids_unless_text_is_needed() -> None:
    assert words_for(None, Api.COMPLETIONS) == (None, True)
    assert words_for(None, Api.CHAT) == (COMMON_WORDS, False)


@pytest.mark.parametrize(
    ("url", "authority", "base"),
    [
        ("http://h:8000", "h:8000", "/v1"),
        ("https://h/v1/", "h", "/v1"),
        ("http://[::1]:9/api", "[::1]:9", "/api/v1"),
    ],
)
def test_targets_with_and_without_v1(url: str, authority: str, base: str) -> None:
    target = parse_target(url)
    assert (target.authority, target.base_path) == (authority, base)


@pytest.mark.parametrize("url", ["h:8000", "ftp://h", "http://", "http://h:port", "http://user@h", "http://h?x=1"])
def test_unusable_targets_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="target"):
        parse_target(url)
