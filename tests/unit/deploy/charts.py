"""The chart as helm renders it, by helm's own library: what each example makes, object by object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "fleetune"
EXAMPLES = sorted((ROOT / "deploy" / "helm" / "examples").glob("*.yaml"))
IDS = [example.stem for example in EXAMPLES]
NAMESPACE = "inference"

Object = dict[str, Any]


def values_of(example: Path) -> Object:
    found: Object = yaml.safe_load(example.read_text())
    return found


def rendered(values: Mapping[str, Any], *, name: str = "fleetune") -> Sequence[Object]:
    """Return every object, hooks too. Raises HelmError where the schema or a template refuses the values."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(dict(values))
        texts = chart.render(dict(values), name=name, namespace=NAMESPACE)
    manifests = [text for path, text in sorted(texts.items()) if path.endswith(".yaml")]
    return [each for text in manifests for each in yaml.safe_load_all(text) if each]


@cache
def of_example(example: Path) -> Sequence[Object]:
    return rendered(values_of(example))


def named(objects: Sequence[Object], kind: str, name: str) -> Object:
    return next(each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))


def pods(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Return the template of every Deployment and Job under its name."""
    for each in objects:
        if each["kind"] in ("Deployment", "Job"):
            yield each["metadata"]["name"], each["spec"]["template"]


def container(objects: Sequence[Object], name: str) -> Object:
    found: Object = dict(pods(objects))[name]["spec"]["containers"][0]
    return found
