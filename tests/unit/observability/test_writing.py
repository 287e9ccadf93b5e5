"""What `fleetune observability write` takes: nothing that a Prometheus would only refuse later."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from controlplane.cli.main import app
from controlplane.domain.operations.alerts import MOST_AT_ONCE
from dashboards.observability.files import Where, files
from tests.builders_serving import a_spec

SERVICE = str(Path(__file__).parents[3] / "examples" / "cpu" / "embeddings.yaml")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--api", "ftp://there"], "--api 'ftp://there' is no URL"),
        (["--api", "127.0.0.1:8700"], "is no URL"),
        (["--gateway", "there:port:8000"], "is no address"),
        (["--gateway", "http://there:8000"], "is no address"),
        (["--gateway", "there:70000"], "is no address"),
        (["--alertmanager", "there"], "--alertmanager 'there' is no address"),
    ],
)
def test_an_address_that_no_prometheus_could_use_is_refused_before_anything_is_written(
    tmp_path: Path, given: list[str], said: str
) -> None:
    done = CliRunner().invoke(app, ["observability", "write", str(tmp_path / "out"), "-f", SERVICE, *given])
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_an_address_of_ipv6_is_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["observability", "write", str(tmp_path), "-f", SERVICE, "--gateway", "[::1]:8000"])
    assert done.exit_code == 0, done.output
    assert "[::1]:8000" in (tmp_path / "prometheus.yml").read_text()


def test_prometheus_shows_its_key_to_whatever_asks_for_one() -> None:
    written = yaml.safe_load(files([a_spec()], Where("http://a", ["b:1"], "/etc/key"))["prometheus.yml"])
    shown = {"type": "Bearer", "credentials_file": "/etc/key"}
    gateways, control, engines = written["scrape_configs"]
    assert [gateways["authorization"], control["authorization"]] == [shown, shown]
    assert engines["http_sd_configs"][0]["authorization"] == shown
    assert "authorization" not in engines  # engines are no business of the key


def test_an_alertmanager_cuts_its_word_where_the_api_takes_no_more() -> None:
    text = files([a_spec()], Where("http://a", ["b:1"], None, alertmanager="c:1"))["alertmanager.yml"]
    assert f"max_alerts: {MOST_AT_ONCE}" in text
