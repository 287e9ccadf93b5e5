"""A/B tests: who is better, by how much, and what is undecided."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from controlplane.domain.ab_tests.ab_test import AbState, AbTest, Compared, Grade
from controlplane.domain.ab_tests.metrics import AbMetric
from dashboards import components, markup, theme, words
from dashboards.charts import ab_test as charts
from dashboards.client import ApiClient
from dashboards.components import confirmed
from dashboards.markup import Column
from dashboards.page import choose_one, choose_service, no_service, perform

_STATE = {
    AbState.STARTING: theme.MUTED,
    AbState.RUNNING: theme.CANARY,
    AbState.CONCLUDED: theme.GOOD,
    AbState.STOPPED: theme.BAD,
}
_GRADE = {
    Grade.BETTER: theme.GOOD,
    Grade.WORSE: theme.BAD,
    Grade.DIFFERENT: theme.CANARY,
    Grade.ALIKE: theme.STABLE,
    Grade.UNDECIDED: theme.MUTED,
}


def show(client: ApiClient) -> None:
    """Render the page."""
    services = client.services()
    if not services:
        no_service("A/B tests")
        return
    service = choose_service(services)
    tests: dict[str, AbTest] = {test.test_id: test for test in client.ab_tests(service.name)}
    if not tests:
        components.headline("A/B tests", service.name)
        text = "A rollout asks whether a canary is no worse; an A/B test asks which of several revisions is better."
        command = f"fleetune ab start {service.name} --arm stable=50 --arm REVISION=50 --metric ttft --effect 5"
        components.note("No A/B test yet", text, command)
        return
    test = choose_one("Test", tests, lambda name: f"{name} · {tests[name].state}", key="ab-test")
    badge = markup.pill(test.state.value, _STATE[test.state])
    components.headline(f"A/B test {test.test_id}", f"{test.service} · all times UTC", badge)
    if test.question:
        st.html(f'<div style="padding:2px">{escape(test.question)}</div>')
    components.line(test.reason)
    for said in in_short(test):
        components.line(said)
    _stop(client, test)
    _plan(test)
    _answer(test)


def in_short(test: AbTest) -> list[str]:
    """Return what is certain by what decides, a sentence per arm, and what nobody knows yet."""
    found = test.analysis
    if found is None or found.problem is not None:
        return []
    known = [each for each in found.deciding if each.grade is not Grade.UNDECIDED]
    said = [
        f"{test.named(each.arm)} against {test.named(each.against)}: {words_of(each.metric)} "
        f"{each.difference:+.1f}{_unit(each)}, certainly {_bounds(each)}"
        for each in known
    ]
    open_ones = dict.fromkeys(
        words_of(each.metric) for each in (*found.deciding, *found.others) if each.grade is Grade.UNDECIDED
    )
    return [*said, *([f"Undecided: {', '.join(open_ones)}"] if open_ones else [])]


def _stop(client: ApiClient, test: AbTest) -> None:
    if test.is_over:
        return
    text = "All traffic goes back to stable at once; the challengers drain and stop."
    reason = confirmed("Stop", text, key=f"stop-{test.test_id}")
    if reason is not None:
        perform(lambda: client.act("ab-tests", test.test_id, "stop", reason), f"{test.test_id} is stopped")


def _plan(test: AbTest) -> None:
    plan, options = test.plan, test.options
    effect = f"{options.minimum_effect_percent:g} {'%' if options.metric.is_relative else 'points'}"
    sure = f"power {options.power:g} at {options.confidence:.0%} confidence"
    users = f"{words.count(plan.users_per_arm)} users of the smallest arm"
    components.line(f"Planned · {users} find {effect} of {words_of(options.metric)} with {sure}")


def _answer(test: AbTest) -> None:
    found = test.analysis
    if found is None:
        components.line("Nothing counted yet.")
        return
    if found.problem is not None:
        components.note("The arms cannot be compared", found.problem)
    if found.judge_problem is not None and found.judge_problem != found.problem:
        components.note("The judge of answers", found.judge_problem)
    _arms(test)
    components.section(f"What decides: {words_of(test.options.metric)}")
    _compared(test, found.deciding)
    if found.others:
        components.section("Beside it, against the control")
        _compared(test, found.others)


def _arms(test: AbTest) -> None:
    assert test.analysis is not None, "shown only then"
    counted = {arm.revision: arm for arm in test.analysis.arms}
    titles = (
        "Arm",
        "Revision",
        "Share",
        "Users",
        "Requests",
        "Scores",
        "Judged",
        "USD per 1,000 requests",
        "Answers stopped by",
    )
    rows = [
        [
            test.named(arm.revision),
            arm.revision,
            f"{arm.share_percent} %",
            words.count(counted[arm.revision].users),
            words.count(counted[arm.revision].requests),
            words.count(counted[arm.revision].scores),
            words.count(counted[arm.revision].judged),
            words.usd(counted[arm.revision].usd_per_1000_requests),
            ", ".join(f"{reason} {number}" for reason, number in counted[arm.revision].stops.items()) or words.NONE,
        ]
        for arm in test.arms
    ]
    components.table([Column(title) for title in titles], rows)


def _compared(test: AbTest, found: Sequence[Compared]) -> None:
    relative = [each for each in found if each.metric.is_relative]
    shares = [each for each in found if not each.metric.is_relative]
    for part, unit in ((relative, "%"), (shares, "percentage points")):
        if any(each.low is not None for each in part):
            key = f"{test.test_id}-{part[0].metric}-{unit}-{len(found)}"
            components.chart(charts.intervals(test, part, unit, colours=_GRADE), key=key)
    titles = ("Metric", "Arm", "Against", "Users", "Mean", "Against", "Difference", "Certainly within", "Verdict")
    components.table([Column(title) for title in titles], [_row(test, each) for each in found])


def _row(test: AbTest, each: Compared) -> list[str]:
    return [
        words_of(each.metric),
        test.named(each.arm),
        test.named(each.against),
        f"{words.count(each.users)} / {words.count(each.users_against)}",
        mean(each.metric, each.mean),
        mean(each.metric, each.mean_against),
        f"{each.difference:+.1f}{_unit(each)}",
        _bounds(each),
        markup.pill(each.grade.value, _GRADE[each.grade]),
    ]


def _unit(each: Compared) -> str:
    return " %" if each.metric.is_relative else " points"


def _bounds(each: Compared) -> str:
    if each.low is None or each.high is None:
        return words.NONE
    return f"{each.low:+.1f} to {each.high:+.1f}{_unit(each)}"


def mean(metric: AbMetric, value: float) -> str:
    """Return a mean as a person reads it."""
    if not metric.is_relative:
        return words.percent(value)
    return f"{words.number(value)} {'tokens' if metric is AbMetric.LENGTH else 'ms'}"


def words_of(metric: AbMetric) -> str:
    """Return a metric's name as a person reads it."""
    name = metric.value.replace("_", " ")
    return name.upper() if metric in (AbMetric.TTFT, AbMetric.TPOT, AbMetric.E2E) else name.replace("slo", "SLO")
