"""The examples for Argo: valid to the letter, and about what Fleetune really answers and writes."""

from __future__ import annotations

from pathlib import Path

import yaml

from controlplane.domain.rollouts.told_verdict import Told
from tests.fakes.kubernetes.schemas import broken_rules, flaws, resource_of

EXAMPLES = Path(__file__).parents[3] / "deploy" / "gitops"


def test_the_analysis_template_is_valid_and_asks_for_a_path_that_is_there() -> None:
    template = yaml.safe_load((EXAMPLES / "analysis-template.yaml").read_text())
    resource = resource_of(template["apiVersion"], template["kind"])
    assert (flaws(template, resource), broken_rules(template, resource)) == ([], [])
    (metric,) = template["spec"]["metrics"]
    path = metric["provider"]["web"]["url"].partition(":8700")[2].replace("{{args.service}}", "{service}")
    assert path.endswith("/services/{service}/verdict")
    for condition, word in (("successCondition", Told.SAFE), ("failureCondition", Told.HARM)):
        assert metric[condition] == f'result == "{word.value}"'


def test_the_application_leaves_to_others_what_others_move() -> None:
    application = yaml.safe_load((EXAMPLES / "application.yaml").read_text())
    left = {(each["group"], each["kind"]) for each in application["spec"]["ignoreDifferences"]}
    assert ("apps", "Deployment") in left
    assert ("gateway.networking.k8s.io", "HTTPRoute") in left
