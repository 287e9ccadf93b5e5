"""The comparison of doors: what is computed of it, and what Envoy is told."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks.doors.contestants import STAGES, envoy_config
from benchmarks.doors.former import unpacked
from benchmarks.doors.load import SHAPES, Cost, slope_per_minute
from benchmarks.gateway import doors, report, since


def test_requests_a_core_come_from_cpu_time_not_from_the_wall() -> None:
    found = Cost(requests=500, wall_s=10.0, cpu_s=0.25)
    assert (found.per_core_s, found.cpu_us) == (2000, 500)


def test_medians_are_taken_over_the_rounds_of_each_door() -> None:
    rounds = [Cost(100, 1.0, cpu_s) for cpu_s in (0.1, 0.5, 0.2)]
    found = report(Namespace(), {"ours": {"short": rounds}}, {"ours": {"idle": {"p50_ms": 1.0, "p99_ms": 2.0}}})
    assert found["doors"]["ours"]["short"] == pytest.approx({"per_core_s": 500, "cpu_us": 2000})
    assert found["doors"]["ours"]["idle"]["p99_ms"] == 2.0
    json.dumps(found)


def test_every_stage_has_a_door_and_the_missing_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    asked = {"grpc": False, "before": None, "litellm": None, "envoy": None}
    found = doors(Namespace(only="ours,litellm,envoy", stages=True, **asked), Path("/nowhere"))
    assert set(found) == {"ours, stages off", "ours, stages on", "+ key", "+ audit", *(f"+ {name}" for name in STAGES)}
    said = capsys.readouterr().out
    assert "litellm is not on this machine" in said
    assert "envoy is not on this machine" in said
    only = Namespace(only="litellm", stages=False, litellm="/x/litellm", envoy=None)
    assert set(doors(only, Path("/nowhere"))) == {"litellm"}


def test_an_earlier_commit_stands_beside_ours_from_a_folder_of_its_own(tmp_path: Path) -> None:
    asked = {"stages": False, "grpc": False, "litellm": None, "envoy": None}
    found = doors(Namespace(only="ours", before="HEAD", **asked), tmp_path)
    assert [name for name in found if name.startswith("before")] == ["before, stages off", "before, stages on"]
    assert (tmp_path / "before" / "controlplane" / "gateway" / "__main__.py").is_file()


def test_a_commit_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no-such-commit cannot be unpacked"):
        unpacked("no-such-commit", tmp_path)


def test_what_came_before_is_compared_round_by_round() -> None:
    def rounds(*cpu_s: float) -> dict[str, list[Cost]]:
        return {"short": [Cost(100, 1.0, each) for each in cpu_s]}

    costs = {"ours, stages on": rounds(0.1, 0.3, 0.2), "before, stages on": rounds(0.2, 0.4, 0.4)}
    assert since(costs) == {"stages on": {"short": 0.5}}


def test_memory_that_grows_does_so_by_its_slope_once_buffers_found_their_size() -> None:
    beginning = [(float(second), 50.0 + 10 * second) for second in range(20)]
    after = [(float(second), 250.0 + second / 60) for second in range(20, 100)]
    assert slope_per_minute(beginning + after) == pytest.approx(1.0)
    assert slope_per_minute([(float(second), 80.0) for second in range(100)]) == pytest.approx(0.0)


def test_envoy_listens_on_one_port_and_asks_the_other() -> None:
    listener, cluster = json.loads(json.dumps(envoy_config(1111, 2222)))["static_resources"].values()
    assert '"port_value": 1111' in json.dumps(listener)
    assert '"port_value": 2222' in json.dumps(cluster)


def test_shapes_are_what_they_say() -> None:
    assert set(SHAPES) == {"short", "stream32", "body100k"}
    assert json.loads(SHAPES["stream32"])["max_tokens"] == 32
    assert len(json.loads(SHAPES["body100k"])["messages"][0]["content"].split()) == 100_000
