"""A service that follows a model in MLflow: what moves there goes out here, what became of it goes back there."""

from __future__ import annotations

from controlplane.domain.catalogue import CatalogueLink
from controlplane.domain.models import STABLE
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.services.catalogue.follow import LONGEST_WAIT_S
from controlplane.services.models import last_good, move_alias
from controlplane.services.rollouts.manage import abort_rollout, roll_back, start_rollout
from tests.builders_serving import CHAT
from tests.fakes.catalogue import FakeCatalogue
from tests.integration.controller.mlflow_site import KNOWN_AS, NAME, NEW, OLD, REQUESTS, THIRD, MlflowSite, on_fake
from tests.integration.controller.site import BETTER


def test_a_service_that_serves_what_the_alias_names_starts_nothing() -> None:
    site = on_fake()
    site.serving()
    site.site.passes(3)
    assert site.site.store.list_rollouts(CHAT) == []
    assert [(each.number, each.source, each.origin) for each in site.model.versions] == [(1, OLD, "1"), (2, NEW, "2")]
    assert {name: alias.version for name, alias in site.model.aliases.items()} == {"candidate": 1, STABLE: 1}


def test_a_moved_alias_goes_out_as_a_canary_and_its_promotion_moves_stable_there() -> None:
    site = on_fake()
    site.serving()
    site.moved("2")
    site.until(RolloutState.PROMOTED)
    assert site.site.store.get_revision(site.site.rollout.canary).model.path == NEW
    assert site.site.rollout.steps[0].weight_percent == 5
    assert site.aliases == {"candidate": "2", STABLE: "2"}
    assert (site.tag(2) or "").startswith(f"promoted by {site.site.rollout.rollout_id}: ")
    assert site.model.aliases[STABLE].version == 2
    assert len(site.said("model.told")) == 1
    site.look()
    assert len(site.said("model.told")) == 1


def test_a_new_version_goes_out_where_latest_is_followed() -> None:
    site = on_fake()
    site.serving(OLD, alias="latest")
    site.team.add(NAME, "s3://models/b", tags={"fleetune.source": NEW})
    site.look()
    site.until(RolloutState.PROMOTED)
    assert site.aliases[STABLE] == "2"


def test_a_refused_canary_leaves_every_alias_and_its_reason_is_a_tag() -> None:
    site = on_fake()
    site.serving()
    site.moved("2")
    site.site.slow.add(site.site.rollout.canary)
    site.until(RolloutState.ABORTED)
    assert site.aliases == {"candidate": "2", STABLE: "1"}
    assert site.tag(2) == f"rolled back by {site.site.rollout.rollout_id}: {site.site.rollout.reason}"
    assert site.model.aliases[STABLE].version == 1
    site.look()
    site.site.passes(3)
    assert len(site.site.store.list_rollouts(CHAT)) == 1


def test_a_rollout_of_flags_alone_says_nothing_of_the_version() -> None:
    site = on_fake()
    site.serving()
    start_rollout(site.site.store, service=CHAT, config=BETTER, replicas=1, actor="ann", now=site.site.clock())
    site.site.slow.add(site.site.rollout.canary)
    site.until(RolloutState.ABORTED)
    assert site.tag(1) is None
    assert site.said("model.told") == []


def test_a_roll_back_moves_the_alias_back() -> None:
    site = on_fake()
    site.serving(promoted="candidate")
    site.moved("2")
    site.until(RolloutState.PROMOTED)
    assert "candidate is confirmed" in site.said("model.told")[-1]
    before = last_good(site.site.store, CHAT).revision_id
    roll_back(site.site.store, service=CHAT, revision=before, actor="ann", now=site.site.clock())
    site.until(RolloutState.PROMOTED)
    assert site.aliases["candidate"] == "1"
    site.site.passes(3)
    assert len(site.site.store.list_rollouts(CHAT)) == 2


def test_a_service_that_is_to_be_told_only_starts_nothing() -> None:
    site = on_fake()
    site.serving(then="tell")
    site.moved("2")
    site.site.passes(3)
    assert site.site.store.list_rollouts(CHAT) == []
    assert site.said("model.waits")[-1] == (
        "candidate of Support Llama is version 2 now: "
        "`fleetune model serve support-llama 2 --service chat` rolls it out"
    )


def test_of_two_people_who_move_the_alias_at_once_the_later_is_served_and_nobody_twice() -> None:
    site = on_fake()
    site.serving(OLD, NEW, THIRD)
    for version in ("2", "3"):
        site.catalogue.move_alias(NAME, "candidate", version)
    site.look()
    site.until(RolloutState.PROMOTED)
    assert [row.value.state for row in site.site.store.list_rollouts(CHAT)] == [RolloutState.PROMOTED]
    assert site.aliases == {"candidate": "3", STABLE: "3"}


def test_who_moves_the_alias_on_during_a_canary_has_theirs_rolled_out_next_and_is_not_overruled() -> None:
    site = on_fake()
    site.serving(OLD, NEW, THIRD, promoted="candidate")
    site.moved("2")
    first = site.site.rollout.rollout_id
    site.moved("3")
    while site.site.store.get_rollout(first).value.state is not RolloutState.PROMOTED:
        site.site.passes(1, requests=REQUESTS)
    site.look()
    assert site.aliases["candidate"] == "3"
    assert f"candidate stays at version 3 in MLflow: it was moved since {first} began" in site.said("model.told")[0]
    site.until(RolloutState.PROMOTED)
    assert site.site.store.get_revision(site.site.service.stable or site.site.rollout.canary).model.path == THIRD
    assert site.aliases["candidate"] == "3"


def test_who_moves_the_alias_just_before_we_do_is_not_overruled() -> None:
    site = on_fake()
    site.serving(OLD, NEW, THIRD)
    site.moved("2")
    site.site.passes_until(RolloutState.PROMOTED, requests=REQUESTS)
    site.catalogue.move_alias(NAME, STABLE, "3")
    site.look()
    assert site.aliases[STABLE] == "3"
    assert "stable stays at version 3" in site.said("model.told")[0]


def test_a_person_here_and_a_person_there_who_move_an_alias_at_once_are_both_heard() -> None:
    site = on_fake()
    site.serving(OLD, NEW, THIRD)
    move_alias(site.site.store, KNOWN_AS, "candidate", "3", seen=1, actor="ann", now=site.site.clock())
    site.look()
    assert site.model.aliases["candidate"].version == 3
    site.moved("2")
    assert (site.model.aliases["candidate"].version, site.model.aliases["candidate"].moved_by) == (2, "mlflow")


def test_a_silent_mlflow_is_said_once_and_its_return_too_while_serving_goes_on() -> None:
    site = on_fake()
    site.serving()
    site.moved("2")
    site.act(lambda fake: setattr(fake, "silent", "nobody listens there"))
    for _ in range(3):
        assert site.look(LONGEST_WAIT_S) == [f"{KNOWN_AS}: MLflow does not answer: nobody listens there"]
    site.restart()
    site.look()
    site.until(RolloutState.PROMOTED)
    assert len(site.said("model.not_followed")) == 1
    assert site.model.origin is not None
    assert site.model.origin.problem == "MLflow does not answer: nobody listens there"
    assert site.model.aliases[STABLE].version == 2

    site.act(lambda fake: setattr(fake, "silent", None))
    assert site.look(LONGEST_WAIT_S) == []
    assert len(site.said("model.followed_again")) == 1
    assert site.aliases == {"candidate": "2", STABLE: "2"}
    assert site.tag(2) is not None


def test_a_silent_mlflow_is_asked_less_and_less_often() -> None:
    site = on_fake()
    site.serving()
    site.act(lambda fake: setattr(fake, "silent", "nobody listens there"))
    site.look()
    asked, before = [], _times_asked(site)
    for second in range(0, 1000, 10):
        site.site.clock.go_on(10)
        assert site.follower.run() == [f"{KNOWN_AS}: MLflow does not answer: nobody listens there"]
        if _times_asked(site) != before:
            asked.append(second + 10)
        before = _times_asked(site)
    assert asked == [20, 60, 140, 300, 600, 900]


def _times_asked(site: MlflowSite) -> int:
    assert isinstance(site.team, FakeCatalogue)
    return site.team.asked


def test_two_promotions_while_mlflow_was_silent_move_the_alias_to_the_last_one() -> None:
    site = on_fake()
    site.serving(OLD, NEW, THIRD)
    site.moved("2")
    site.act(lambda fake: setattr(fake, "silent", "it is slow"))
    site.until(RolloutState.PROMOTED)
    move_alias(site.site.store, KNOWN_AS, "candidate", "3", seen=2, actor="ann", now=site.site.clock())
    site.until(RolloutState.PROMOTED)
    site.act(lambda fake: setattr(fake, "silent", None))
    site.look(LONGEST_WAIT_S)
    assert len(site.site.store.list_rollouts(CHAT)) == 2
    assert site.aliases == {"candidate": "2", STABLE: "3"}
    assert [(site.tag(number) or "").partition(" ")[0] for number in (2, 3)] == ["promoted", "promoted"]


def test_a_model_that_mlflow_does_not_have_is_said_once() -> None:
    site = on_fake()
    site.site.serving(mlflow=CatalogueLink(model=NAME, alias="candidate"))
    assert site.look() == site.look(LONGEST_WAIT_S) == [f"{KNOWN_AS}: the catalogue has no model {NAME}"]
    assert site.said("model.not_followed") == [
        f"{NAME} of MLflow is not followed for now, serving goes on: the catalogue has no model {NAME}"
    ]
    assert site.site.store.list_rollouts(CHAT) == []


def test_a_version_no_engine_can_read_is_refused_once_and_taken_when_its_tag_says_where_it_is() -> None:
    site = on_fake()
    site.serving(OLD)
    site.team.add(NAME, "mlflow-artifacts:/1/models/m-1/artifacts")
    site.catalogue.move_alias(NAME, "candidate", "2")
    for _ in range(3):
        site.look()
    assert site.said("model.refused") == [
        "Support Llama in MLflow: version 2 is kept in MLflow itself, where no engine reads it: "
        "mlflow-artifacts:/1/models/m-1/artifacts"
        " (allowed: `fleetune model fetch MODEL 2 --to FOLDER` where engines are, or the tag fleetune.source with where"
        " its files lie)"
    ]
    assert site.model.aliases["candidate"].version == 1
    site.catalogue.tag(NAME, "2", {"fleetune.source": NEW})
    site.look()
    assert site.model.aliases["candidate"].version == 2
    assert site.model.origin is not None
    assert site.model.origin.refused == {}


def test_an_aborted_canary_is_told_with_the_persons_reason() -> None:
    site = on_fake()
    site.serving()
    site.moved("2")
    site.site.passes(2)
    rollout = site.site.rollout.rollout_id
    abort_rollout(site.site.store, rollout, actor="ann", reason="wrong tokenizer", now=site.site.clock())
    site.until(RolloutState.ABORTED)
    assert site.tag(2) == f"rolled back by {rollout}: wrong tokenizer"
