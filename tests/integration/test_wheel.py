"""The wheel has everything that a checkout has: built, unpacked, and run from an empty folder outside the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("controlplane", "tuner", "loadtests", "dashboards")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, built from a copy of the packages, so that the tree is left as it is."""
    source, out, lib = (tmp_path_factory.mktemp(name) for name in ("source", "wheel", "lib"))
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(out)], cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
        wheel.extractall(lib)
    return lib


def run(lib: Path, folder: Path, *args: str) -> str:
    environment = dict(os.environ) | {"PYTHONPATH": str(lib)}
    command = [sys.executable, "-m", "controlplane.cli.main", *args]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_file_of_the_packages_is_left_out(unpacked: Path) -> None:
    def files(root: Path) -> set[str]:
        every = (path for package in PACKAGES for path in (root / package).rglob("*"))
        return {str(each.relative_to(root)) for each in every if each.is_file() and each.parent.name != "__pycache__"}

    assert files(ROOT) - files(unpacked) == set()


def test_the_demo_finds_its_example_and_a_store_is_made(unpacked: Path, tmp_path: Path) -> None:
    where = "import controlplane.cli.demo as demo; print(demo.__file__, demo.load_service(demo.EXAMPLE).name)"
    environment = dict(os.environ) | {"PYTHONPATH": str(unpacked)}
    said = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said.split() == [str(unpacked / "controlplane" / "cli" / "demo.py"), "chat"]
    run(unpacked, tmp_path, "key", "create", "ops", "--scope", "read")
    assert "no study yet" in run(unpacked, tmp_path, "study", "list")


def test_a_first_service_is_written_of_a_shipped_shape_and_profile(unpacked: Path, tmp_path: Path) -> None:
    said = run(
        unpacked, tmp_path, "init", "--model", "llama-8b", "--gpus", "1xH200", "--limits", "500,50", "--qps", "1"
    )
    assert "wrote service.yaml" in said
