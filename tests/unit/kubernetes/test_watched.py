"""What a watch knows while its server is away: the last it heard, for a while, and then nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controlplane.adapters.fleet_kubernetes.door import OPENED, Door, Json, Place
from controlplane.adapters.fleet_kubernetes.hangup import Hangup
from controlplane.adapters.fleet_kubernetes.kept import of_pod
from controlplane.adapters.fleet_kubernetes.manifests import manifests
from controlplane.adapters.fleet_kubernetes.refusals import Expired
from controlplane.adapters.fleet_kubernetes.sight import sight_of
from controlplane.adapters.fleet_kubernetes.watched import Watched, end
from controlplane.domain.errors import Forbidden, Unavailable
from controlplane.reading.service_file import load_service
from tests.threads import left_of, watchers

EXAMPLE = Path(__file__).parents[3] / "examples" / "kubernetes.yaml"
AT = "2026-01-01T00:00:00Z"
PODS = Place("api/v1", "pods", "default")
_FOR_EVER_S = 1e6


def pod(name: str, version: int) -> Json:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


class ScriptedDoor(Door):
    """Lists what it is told, and lets every watch end as it is told; what comes after waits to be hung up."""

    def __init__(self, listed: list[list[Json]], watches: list[list[tuple[str, Json]] | Exception]) -> None:
        self.listed, self.watches = iter(listed), iter(watches)
        self.played = threading.Event()

    def list(self, place: Place, **query: str) -> Json:
        return {"metadata": {"resourceVersion": "10"}, "items": next(self.listed)}

    def watch(
        self, place: Place, version: str, *, seconds: int, hangup: Hangup, **query: str
    ) -> Iterator[tuple[str, Json]]:
        script = next(self.watches, None)
        if script is None:
            self.played.set()
            hangup.wait(_FOR_EVER_S)
        elif isinstance(script, Exception):
            raise script
        else:
            yield from script


Watch = Callable[..., Watched]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Watches pods of a door until the test is over."""
    made: list[Watched] = []

    def begun(door: Door, **options: object) -> Watched:
        made.append(Watched(door, PODS, **options))  # type: ignore[arg-type]
        return made[-1]

    yield begun
    end(*made)


def names(watched: Watched) -> list[str]:
    return sorted(each["metadata"]["name"] for each in watched.items())


def play(door: ScriptedDoor, watched: Watched) -> None:
    watched.items()
    assert door.played.wait(240)


def test_what_changes_is_heard_and_what_goes_is_gone_for_good(watch: Watch) -> None:
    events = [(OPENED, {}), ("ADDED", pod("b", 11)), ("DELETED", pod("a", 12)), ("BOOKMARK", pod("", 13))]
    door = ScriptedDoor([[pod("a", 5)]], [events])
    watched = watch(door)
    play(door, watched)
    assert names(watched) == ["b"]
    watched.heard(pod("a", 9))  # an answer that comes late
    watched.heard(pod("b", 8))
    assert [each["metadata"]["resourceVersion"] for each in watched.items()] == ["11"]


def test_of_a_pod_is_kept_what_is_seen_of_it() -> None:
    spec = load_service(EXAMPLE)
    assert spec.kubernetes is not None
    made = manifests(spec, spec.kubernetes, spec.baseline, replicas=1)[0]["spec"]["template"]
    ended = {"exitCode": 137, "reason": "OOMKilled", "startedAt": AT, "finishedAt": AT, "message": "killed"}
    container = {
        "name": "engine",
        "image": "a",
        "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    }
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": AT}
    status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [ready], "hostIP": "10.0.0.9"}
    whole = {
        "metadata": {**made["metadata"], "name": "a", "uid": "u", "managedFields": [{"manager": "kubelet"}]},
        "spec": {**made["spec"], "nodeName": "n-1"},
        "status": {**status, "containerStatuses": [{**container, "lastState": {"terminated": ended}}]},
    }
    assert sight_of(of_pod(whole)) == sight_of(whole)
    assert (sight_of(whole).exit_reason, sight_of(whole).node) == ("OOMKilled", "n-1")
    assert len(json.dumps(of_pod(whole))) < len(json.dumps(whole)) / 3


def test_a_watch_that_expired_lists_again_and_keeps_what_was_written_meanwhile(watch: Watch) -> None:
    class Slow(ScriptedDoor):
        def list(self, place: Place, **query: str) -> Json:
            found, version = super().list(place, **query), 10 * (watched.listings + 1)
            watched.heard(pod("mine", version + 2))  # an answer to somebody else, while this one is on its way
            return {**found, "metadata": {"resourceVersion": str(version)}}

    door = Slow([[pod("a", 5)], [pod("c", 9)]], [[(OPENED, {})], Expired("too old")])
    watched = watch(door)
    play(door, watched)
    assert (names(watched), watched.listings) == (["c", "mine"], 2)


def test_a_store_that_was_put_back_leaves_nothing_of_what_came_after(watch: Watch) -> None:
    told = [(OPENED, {}), ("ADDED", pod("later", 20)), ("ADDED", pod("gone", 21)), ("DELETED", pod("gone", 22))]
    door = ScriptedDoor([[pod("a", 5)], [pod("a", 5), pod("gone", 7)]], [told, Expired("too large")])
    watched = watch(door)
    play(door, watched)
    assert names(watched) == ["a", "gone"]


def test_of_several_containers_ours_is_looked_at() -> None:
    states = [("a-mesh", 3, {"waiting": {"reason": "PodInitializing"}}), ("engine", 1, {"running": {"startedAt": AT}})]
    statuses = [{"name": name, "restartCount": count, "state": state} for name, count, state in states]
    found = sight_of({"metadata": {"name": "a"}, "spec": {}, "status": {"containerStatuses": statuses}})
    assert (found.restarts, found.waiting) == (1, "")


def test_what_is_known_counts_as_old_once_the_server_was_silent_for_so_long(watch: Watch) -> None:
    now_s = [0.0]
    door = ScriptedDoor([[pod("a", 5)]], [Unavailable("away"), Unavailable("away")])
    watched = watch(door, stale_s=10, steady=lambda: now_s[0])
    play(door, watched)
    assert names(watched) == ["a"]
    now_s[0] = 10.0
    with pytest.raises(Unavailable, match="away"):
        watched.items()


def test_a_right_that_is_missing_is_said_at_once(watch: Watch) -> None:
    class Closed(ScriptedDoor):
        def list(self, place: Place, **query: str) -> Json:
            raise Forbidden("cannot list pods")

    with pytest.raises(Forbidden, match="cannot list pods"):
        watch(Closed([], [])).items()


def test_what_a_broken_watch_tells_again_takes_nothing_away(watch: Watch) -> None:
    told = [(OPENED, {}), ("DELETED", pod("a", 11)), ("ADDED", pod("a", 12))]
    door = ScriptedDoor([[pod("a", 5)]], [told, told[:2], Unavailable("away")])
    watched = watch(door)
    play(door, watched)
    assert [each["metadata"]["resourceVersion"] for each in watched.items()] == ["12"]


def test_a_watch_that_breaks_goes_on_from_the_last_it_heard(watch: Watch) -> None:
    asked: list[str] = []

    class Breaking(ScriptedDoor):
        def watch(
            self, place: Place, version: str, *, seconds: int, hangup: Hangup, **query: str
        ) -> Iterator[tuple[str, Json]]:
            asked.append(version)
            yield from super().watch(place, version, seconds=seconds, hangup=hangup, **query)
            if version == "10":
                raise Unavailable("cut")

    door = Breaking([[]], [[(OPENED, {}), ("ADDED", pod("a", 11)), ("BOOKMARK", pod("", 17))]])
    watched = watch(door)
    play(door, watched)
    assert asked == ["10", "17"]


def test_a_watch_that_waits_to_ask_again_ends_at_once(watch: Watch) -> None:
    class Away(ScriptedDoor):
        def list(self, place: Place, **query: str) -> Json:
            raise Unavailable("away")

    before = watchers()
    watched = watch(Away([], []))
    with pytest.raises(Unavailable, match="away"):
        watched.items()
    end(watched)
    assert left_of(before) == []


def test_a_watch_that_ended_says_what_it_knew_and_does_not_begin_anew(watch: Watch) -> None:
    door, never = ScriptedDoor([[pod("a", 5)]], []), watch(ScriptedDoor([], []))
    watched, before = watch(door), watchers()
    play(door, watched)
    end(watched, never)
    assert (names(watched), left_of(before)) == (["a"], [])
    with pytest.raises(Unavailable, match="no answer yet"):
        never.items()
    assert left_of(before) == []
