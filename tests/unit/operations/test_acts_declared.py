"""What is declared for an alert that never comes is refused at once, and whom nobody could tell stands in status."""

from __future__ import annotations

import pytest

from controlplane.domain.errors import InvalidInput
from controlplane.domain.event import Event
from controlplane.domain.operations.alerts import AlertAction, AlertOptions
from controlplane.domain.operations.known_alerts import ALL_NAMES
from controlplane.services.check_service import check_service
from controlplane.services.operations.health import installation_health
from dashboards.observability.rules import rule_file
from tests.builders_serving import CHAT, a_spec
from tests.integration.controller.site import Site


def test_an_act_on_a_misspelt_alert_of_ours_is_refused_with_the_one_that_is_meant() -> None:
    def declared(name: str) -> None:
        check_service(a_spec(alerts=AlertOptions(actions={name: AlertAction.SCALE_OUT})))

    with pytest.raises(InvalidInput, match="no alert FleetuneQueueGrow: did you mean FleetuneQueueGrows"):
        declared("FleetuneQueueGrow")
    declared("FleetuneQueueGrows")
    declared("DiskOfTheOtherTeamIsFull")


def test_every_alert_of_the_rules_is_known() -> None:
    spec = a_spec(alerts=AlertOptions(usd_per_day=10))
    rules = [rule for group in rule_file([spec])["groups"] for rule in group["rules"]]
    assert {rule["alert"] for rule in rules if "alert" in rule} == ALL_NAMES


def test_whom_nobody_could_tell_stands_in_status_for_an_hour_with_why() -> None:
    site = Site()
    site.serving()
    for why in ("no answer", "OPS_URL is not set"):
        event = Event(at=site.clock(), actor="notifier", action="notice.lost", subject="notify/ops", service=CHAT)
        site.store.add_event(event.evolve(reason=why))

    def said() -> list[str]:
        found = installation_health(site.store, site.fleet, site.records, now=site.clock()).findings
        return [each.text for each in found]

    site.clock.go_on(60)
    assert said() == ["ops hears of nothing: OPS_URL is not set"]
    site.clock.go_on(3600)
    assert said() == []
