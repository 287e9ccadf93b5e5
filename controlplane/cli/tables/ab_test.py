"""How an A/B test is told on a terminal."""

from __future__ import annotations

from typing import Any

from controlplane.domain.ab_tests.metrics import AbMetric


def arms_of(test: Any) -> list[str]:
    """Return each arm with its share, and what was counted of it."""
    counted = {arm["revision"]: arm for arm in (test["analysis"] or {"arms": ()})["arms"]}
    return [_arm(arm, counted.get(arm["revision"])) for arm in test["arms"]]


def _arm(arm: Any, counted: Any) -> str:
    said = f"{named(arm)} {arm['share_percent']} %"
    if counted is None:
        return said
    usd = counted["usd_per_1000_requests"]
    stops = ", ".join(f"{reason} {count}" for reason, count in counted["stops"].items())
    cost = "" if usd is None else f", {usd:.2f} USD per 1,000"
    judged = f", {counted['judged']} judged" if counted["judged"] else ""
    return (
        f"{said}: {counted['users']} users, {counted['requests']} requests{judged}{cost}; "
        f"stopped by {stops or 'nothing yet'}"
    )


def named(arm: Any) -> str:
    """Return what a person called an arm, with its revision."""
    return arm["revision"] if arm["label"] in ("", arm["revision"]) else f"{arm['label']} ({arm['revision']})"


def plan_of(test: Any) -> str:
    """Return what was said beforehand."""
    plan, options = test["plan"], test["options"]
    unit = _unit(options["metric"])
    said = (
        f"{plan['users_per_arm']} users of the smallest arm find {options['minimum_effect_percent']:g} {unit} of "
        f"{options['metric']} with power {options['power']:g} at {options['confidence']:.0%} confidence"
    )
    per_day = plan["users_per_day"]
    if not per_day:
        return said
    share = min(arm["share_percent"] for arm in test["arms"])
    return f"{said}; at {per_day:.0f} users a day that is {100 * plan['users_per_arm'] / (share * per_day):.1f} days"


def compared(test: Any, which: str) -> list[str]:
    """Return one line per comparison: what is certain, by how much."""
    labels = {arm["revision"]: arm["label"] or arm["revision"] for arm in test["arms"]}
    return [_compared(each, labels) for each in (test["analysis"] or {}).get(which, ())]


def _compared(each: Any, labels: dict[str, str]) -> str:
    metric = each["metric"]
    unit = _unit(metric)
    bounds = "too few users yet" if each["low"] is None else f"in [{each['low']:+.1f}, {each['high']:+.1f}]"
    means = f"{_mean(metric, each['mean'])} against {_mean(metric, each['mean_against'])}"
    pair = f"{labels[each['arm']]} against {labels[each['against']]}"
    name = metric.replace("_", " ")
    return f"{name}, {pair}: {each['grade']}, {each['difference']:+.1f} {unit} {bounds} ({means})"


def _unit(metric: str) -> str:
    return "%" if AbMetric(metric).is_relative else "points"


def _mean(metric: str, mean: float) -> str:
    if not AbMetric(metric).is_relative:
        return f"{100 * mean:.1f} %"
    return f"{mean:.4g} {'tokens' if metric == AbMetric.LENGTH else 'ms'}"
