"""Every alert fires when it should and stays silent when it should not, as promtool sees it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from controlplane.cli.main import app
from controlplane.domain.door.latency_buckets import BUCKETS_S, bucket_within
from controlplane.domain.operations import known_alerts
from controlplane.domain.operations.alerts import AlertOptions
from controlplane.domain.slo import LatencyMetric, LatencySlo
from dashboards.observability.files import RULES, SCRAPE, Where, files
from dashboards.observability.rules import promises_of, rule_file
from tests.builders_serving import a_spec
from tests.unit.observability.rule_cases import CASES

SERVICE = str(Path(__file__).parents[3] / "examples" / "kubernetes.yaml")
SPEC = a_spec(name="chat", alerts=AlertOptions(usd_per_day=100))  # P95 TTFT ≤ 500 ms, errors ≤ 0.1 %


ALERTS = {rule["alert"] for group in rule_file([SPEC])["groups"] for rule in group["rules"] if "alert" in rule}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("rules")
    for name, text in files([SPEC], Where("http://127.0.0.1:8400", ["127.0.0.1:8000"])).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def promtool(*words: str, cwd: Path) -> str:
    done = subprocess.run(["promtool", *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_takes_the_files_and_finds_nothing_to_complain_of(written: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES, cwd=written)
    assert "SUCCESS" in promtool("check", "config", SCRAPE, cwd=written)


def test_every_alert_fires_in_a_case_and_stays_silent_in_another() -> None:
    fired = set().union(*(case.firing for case in CASES.values()))
    assert fired == ALERTS
    assert all(any(alert not in case.firing for case in CASES.values()) for alert in ALERTS)


@pytest.mark.parametrize("name", CASES)
def test_exactly_the_alerts_that_should_fire(written: Path, name: str) -> None:
    case = CASES[name]
    series = [{"series": each, "values": values} for each, values in case.series.items()]
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(case.firing)]
    checks = [{"expr": f"0 * {firing} + 1", "eval_time": case.at, "exp_samples": samples}]
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": checks}]
    (written / "case.yml").write_text(
        yaml.safe_dump({"rule_files": [RULES], "evaluation_interval": "1m", "tests": tests})
    )
    promtool("test", "rules", "case.yml", cwd=written)


@pytest.mark.parametrize("metric", LatencyMetric)
def test_a_rule_counts_by_the_next_bucket_below_a_limit(metric: LatencyMetric) -> None:
    for bound in BUCKETS_S[metric]:
        assert bucket_within(metric, bound * 1000) == bound
        assert bucket_within(metric, bound * 1000 * 1.01) == bound
    assert bucket_within(metric, BUCKETS_S[metric][0] * 999) is None


def test_a_limit_below_every_bucket_is_not_watched_and_the_others_are() -> None:
    latency = (
        LatencySlo(metric=LatencyMetric.TPOT, percentile=99, limit_ms=1),
        LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=500),
    )
    names = [promise.name for promise in promises_of(a_spec(slos=SPEC.slos.evolve(latency=latency)))]
    assert names == ["P99 TTFT ≤ 500 ms", "errors ≤ 0.001"]


def test_what_the_built_in_watch_knows_is_a_rule_of_the_same_severity_and_patience() -> None:
    rules = {rule["alert"]: rule for group in rule_file([SPEC])["groups"] for rule in group["rules"] if "alert" in rule}
    known = [each for each in vars(known_alerts).values() if isinstance(each, known_alerts.KnownAlert)]
    assert len(known) > 5
    for each in known:
        rule = rules[each.name]
        assert (rule["labels"]["severity"], rule["for"]) == (each.severity, f"{each.for_s // 60}m")


def test_no_service_can_write_into_a_query() -> None:
    assert '"' not in a_spec().name
    for board in files([SPEC], Where("http://a", ["b:1"])).values():
        assert "secret" not in board


def test_the_command_writes_what_it_names(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["observability", "write", str(tmp_path / "out"), "-f", SERVICE])
    assert done.exit_code == 0, done.output
    boards = sorted((tmp_path / "out" / "grafana").glob("*.json"))
    assert [json.loads(each.read_text())["uid"] for each in boards] == [each.stem for each in boards]


@pytest.mark.parametrize("twice", [True, False])
def test_bad_input_of_the_command_is_an_error(tmp_path: Path, twice: bool) -> None:
    (tmp_path / "file").write_text("")
    target, services = (tmp_path, ["-f", SERVICE] * 2) if twice else (tmp_path / "file", ["-f", SERVICE])
    done = CliRunner().invoke(app, ["observability", "write", str(target), *services])
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    assert ("same service" if twice else "cannot write") in done.output
