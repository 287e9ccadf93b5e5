"""Which names of versions clients may ask for, from what the registry says and how the traffic is split."""

from __future__ import annotations

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import RevisionRoute
from controlplane.domain.models import RegisteredModel
from controlplane.services.fleet.versions import ServedVersions, VersionFinder, version_routes
from controlplane.services.models import NewVersion, move_alias, register_version
from tests.builders_serving import NOW, a_revision, a_service, a_spec
from tests.fakes.store import FakeStore

OLD, NEW = RevisionId("rev-old"), RevisionId("rev-new")


def routes(**weights: int) -> list[RevisionRoute]:
    return [
        RevisionRoute(revision=RevisionId(f"rev-{name}"), weight_percent=weight) for name, weight in weights.items()
    ]


def names(served: ServedVersions, **weights: int) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {each.name: (each.version, each.revisions) for each in version_routes("llama", served, routes(**weights))}


def test_during_a_canary_both_versions_have_names_and_aliases_say_which_they_are() -> None:
    served = ServedVersions({OLD: 1, NEW: 3}, {"stable": 1, "candidate": 3, "best": 2})
    assert names(served, old=95, new=5) == {
        "llama@1": ("llama@1", (OLD,)),
        "llama@stable": ("llama@1", (OLD,)),
        "llama@3": ("llama@3", (NEW,)),
        "llama@candidate": ("llama@3", (NEW,)),
    }


def test_stable_is_what_most_requests_get_until_the_alias_has_followed_a_promotion() -> None:
    served = ServedVersions({NEW: 3}, {"stable": 1})
    assert names(served, new=100)["llama@stable"] == ("llama@3", (NEW,))


def test_two_revisions_of_one_version_share_its_name() -> None:
    served = ServedVersions({OLD: 1, NEW: 1}, {})
    assert names(served, old=50, new=50) == {"llama@1": ("llama@1", (NEW, OLD))}


def test_what_is_in_no_registry_has_no_names() -> None:
    assert names(ServedVersions(), old=100) == {}


def model(store: FakeStore, name: str, *sources: str) -> RegisteredModel:
    for source in sources:
        register_version(store, name, NewVersion(source), actor="ann", now=NOW)
    return move_alias(store, name, "stable", "1", seen=None, actor="ann", now=NOW)


def test_of_models_that_share_a_folder_the_one_counts_that_the_service_follows() -> None:
    store, revision = FakeStore(), a_revision()
    store.add_revision(revision)
    models = [model(store, "a", "/other", "llama-8b"), model(store, "b", "llama-8b")]
    finder = VersionFinder(store)
    assert finder.find(a_service(), [revision.revision_id, None], models).revisions == {revision.revision_id: 2}
    follows = a_service(spec=a_spec(follows="b@stable"))
    assert finder.find(follows, [revision.revision_id], models) == ServedVersions(
        {revision.revision_id: 1}, {"stable": 1}
    )
    assert finder.find(a_service(), [RevisionId("unknown")], models) == ServedVersions()
    assert finder.find(a_service(), [revision.revision_id], []) == ServedVersions()
