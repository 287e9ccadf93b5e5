"""Containerfiles, which nothing here can build: what can be known of them without."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
IMAGES = sorted((ROOT / "deploy" / "images").glob("*.Containerfile"))
GATEWAY = ROOT / "deploy" / "images" / "gateway.Containerfile"
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "jwt": "pyjwt",
    "prometheus_client": "prometheus-client",
    "aio_pika": "aio-pika",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "google": "protobuf",
    "opentelemetry": "opentelemetry-exporter-otlp-proto-http",  # which needs the SDK, and that the API
}
LOADED_WHERE_A_SERVICE_ASKS_FOR_IT = {"presidio_analyzer", "sentence_transformers", "tldextract", "spacy"}


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def reached(path: Path) -> set[str]:
    """Return the modules that a file imports, and what our own ones among them import in turn."""
    found: set[str] = set()
    left = [path]
    while left:
        new = imported(left.pop()) - found
        found |= new
        left += [file for name in new if (file := ROOT / f"{name.replace('.', '/')}.py").exists()]
    return found


def named(text: str) -> set[str]:
    """Return the packages that a Containerfile installs by name."""
    (line,) = re.findall(r"requirements\.lock \\\n\s+(.*) \\\n", text)
    return {re.sub(r"\[.*\]", "", word.strip('"')) for word in line.split()}


def test_the_gateways_image_names_all_that_a_gateway_imports() -> None:
    """It has a list of its own: an import that it lacks is found here, not at a start."""
    used = {name.split(".")[0] for name in reached(ROOT / "controlplane" / "gateway" / "__main__.py")}
    foreign = used - set(sys.stdlib_module_names) - {"controlplane"} - LOADED_WHERE_A_SERVICE_ASKS_FOR_IT
    assert {DISTRIBUTIONS.get(each, each) for each in foreign} == named(GATEWAY.read_text())


def test_the_control_planes_image_has_the_git_that_commits_manifests() -> None:
    final = (GATEWAY.parent / "control.Containerfile").read_text().rpartition("FROM ")[2]
    assert {"git", "openssh-client"} <= set(final.split())


def test_nothing_that_is_not_committed_gets_into_an_image_and_all_that_is_installed_does() -> None:
    left_out = set((ROOT / ".dockerignore").read_text().splitlines())
    local = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if "_cache" not in line}
    assert {f"**/{each}" if each[0] == "*" or each == "__pycache__" else each for each in local} <= left_out
    packages = re.findall(r"^include = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert packages
    assert not left_out & {each.strip('"*. ') for each in packages[0].split(",")}


@pytest.mark.parametrize("path", IMAGES, ids=[each.stem for each in IMAGES])
def test_an_image_is_not_roots_and_takes_the_locked_versions(path: Path) -> None:
    text = path.read_text()
    final = text.rpartition("FROM ")[2]
    assert re.search(r"^USER 2000:2000$", final, re.MULTILINE)
    assert "useradd --uid 2000 --gid 2000 " in final  # ssh ends with "No user exists for uid 2000" otherwise
    assert "--constraint requirements.lock" in text
    assert text.count("FROM ") == 2  # what built it is left behind
