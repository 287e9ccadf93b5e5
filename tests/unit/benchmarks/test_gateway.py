"""The comparison of doors: what is computed of it, and what Envoy is told."""

from __future__ import annotations

import json
import os
import subprocess
from argparse import Namespace
from pathlib import Path

import aiohttp
import pytest

from benchmarks.doors.contestants import STAGES, Place, envoy_config, ours
from benchmarks.doors.former import unpacked
from benchmarks.doors.load import SHAPES, Cost, slope_per_minute
from benchmarks.doors.page import page
from benchmarks.gateway import doors, report, show, since
from controlplane.domain.door.gateway_options import GatewayOptions

RESULTS = Path(__file__).parents[3] / "docs" / "results"


def test_requests_a_core_come_from_cpu_time_not_from_the_wall() -> None:
    found = Cost(requests=500, wall_s=10.0, cpu_s=0.25)
    assert (found.per_core_s, found.cpu_us) == (2000, 500)


def test_medians_are_taken_over_the_rounds_of_each_door() -> None:
    rounds = [Cost(100, 1.0, cpu_s) for cpu_s in (0.1, 0.5, 0.2)]
    found = report(Namespace(), {"ours": {"short": rounds}}, {"ours": {"idle": {"p50_ms": 1.0, "p99_ms": 2.0}}})
    assert found["doors"]["ours"]["short"] == pytest.approx({"per_core_s": 500, "cpu_us": 2000})
    assert found["doors"]["ours"]["idle"]["p99_ms"] == 2.0
    json.dumps(found)


def figures(**cpu_us: float) -> dict[str, object]:
    """Figures of doors that take so much CPU for each shape."""
    idle = {"p50_ms": 0.2, "p99_ms": 0.9}
    costs = {
        name: {shape: {"cpu_us": cpu, "per_core_s": 1e6 / cpu} for shape in SHAPES} for name, cpu in cpu_us.items()
    }
    found = {name.replace("_", " "): {**each, "idle": idle, "half load": None} for name, each in costs.items()}
    renamed = {
        {"on": "ours, stages on", "off": "ours, stages off"}.get(name, name): each for name, each in found.items()
    }
    told = {"command": "python -m benchmarks.gateway", "at": "2026-11-29", "machine": "m", "load_average": [0.5, 1, 1]}
    return {**told, "doors": renamed, "of_before": {}, "rounds": {}}


def test_the_page_says_how_many_times_the_others_and_which_targets_are_held() -> None:
    told = page(figures(off=300, on=400, litellm=10_000, envoy=100)).splitlines()
    assert "| ours, stages on | 2,500 (400); 25.0 x LiteLLM; 4.0 x Envoy's CPU" in "".join(told)
    (short,) = [line for line in told if line.startswith("| every stage on, short answers")]
    assert short.endswith("| 25.0 x | held |")
    missed = page(figures(off=600, on=401, litellm=10_000, envoy=100))
    assert "| 24.9 x | **missed** |" in missed
    assert "| 6.0 x | **missed** |" in missed


def test_a_door_that_was_not_there_has_no_row_and_no_target() -> None:
    told = page(figures(off=300, on=400))
    assert "LiteLLM's requests" not in told
    assert "| litellm |" not in told
    assert "0.90 ms | held |" in told


def test_a_load_that_the_client_could_not_offer_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(envoy=100)
    show(found)
    assert "nan" in capsys.readouterr().out
    assert "| envoy | 0.20 | 0.90 | | | |" in page(found)


def test_the_published_page_is_made_of_the_published_figures() -> None:
    figures_of_a_run = json.loads((RESULTS / "gateway.json").read_text())
    assert (RESULTS / "gateway.md").read_text() == page(figures_of_a_run)


def test_every_stage_has_a_door_and_the_missing_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    asked = {"grpc": False, "before": None, "litellm": None, "envoy": None, "ours": ("off", "on")}
    found = doors(Namespace(only="ours,litellm,envoy", stages=True, **asked), Path("/nowhere"))
    assert set(found) == {"ours, stages off", "ours, stages on", "+ key", "+ audit", *(f"+ {name}" for name in STAGES)}
    said = capsys.readouterr().out
    assert "litellm is not on this machine" in said
    assert "envoy is not on this machine" in said
    on_only = doors(Namespace(only="ours", stages=False, **asked | {"ours": ["on"]}), Path("/nowhere"))
    assert set(on_only) == {"ours, stages on"}
    only = Namespace(only="litellm", stages=False, litellm="/x/litellm", envoy=None)
    assert set(doors(only, Path("/nowhere"))) == {"litellm"}


def test_an_earlier_commit_stands_beside_ours_from_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, folder = tmp_path / "repository", tmp_path / "doors"
    folder.mkdir()
    committed(repository, "earlier", "present")
    monkeypatch.chdir(repository)  # as it is called: from the root of the repository
    asked = {"stages": False, "grpc": False, "litellm": None, "envoy": None, "ours": ("off", "on")}
    found = doors(Namespace(only="ours", before="HEAD~1", **asked), folder)
    assert [name for name in found if name.startswith("before")] == ["before, stages off", "before, stages on"]
    assert (folder / "before" / "controlplane" / "gateway" / "__main__.py").read_text() == "earlier"


def committed(repository: Path, *states: str) -> None:
    """Make a repository whose package was in each of these states in turn."""
    package = repository / "controlplane" / "gateway"
    package.mkdir(parents=True)
    git("init", "--quiet", at=repository)
    for state in states:
        (package / "__main__.py").write_text(state)
        git("add", ".", at=repository)
        git("commit", "--quiet", "--message", state, at=repository)


def git(*words: str, at: Path) -> None:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(("git", *who, *words), cwd=at, check=True)


async def test_a_door_of_a_later_round_is_asked_where_it_is_now(tmp_path: Path) -> None:
    place = Place(min(os.sched_getaffinity(0)), "http://127.0.0.1:9", tmp_path)
    found = []
    for _ in range(2):
        async with (
            ours(place, "ours", GatewayOptions()) as door,
            aiohttp.ClientSession() as session,
            session.get(f"{door.url}/health") as response,
        ):
            found.append((response.status, door.process.pid))
    assert [status for status, _ in found] == [200, 200]
    assert found[0][1] != found[1][1]


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
