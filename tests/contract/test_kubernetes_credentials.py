"""Credentials that do not last: a token that is replaced where it was read from, a plug-in that gives none any more."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.adapters.fleet_kubernetes.door import Door, Place, open_door
from controlplane.adapters.fleet_kubernetes.watched import Watched, end
from controlplane.domain.errors import Refused
from tests.contract.kubernetes_servers import wait
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.schemas import resource_of

NODES = Place("api/v1", "nodes")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[StandIn]:
    running = StandIn(tmp_path)
    yield running
    running.stop()


def kubeconfig(cluster: StandIn, user: dict[str, Any]) -> Path:
    """Write the kubeconfig of a user with these credentials."""
    path = cluster.kubeconfig()
    found = yaml.safe_load(path.read_text())
    found["users"][0]["user"] = user
    path.write_text(yaml.safe_dump(found))
    return path


def only(cluster: StandIn, token: str) -> None:
    cluster.faults.token = token


def answers(door: Door) -> bool:
    return not door.list(NODES)["items"]


def test_a_token_in_a_file_that_is_replaced_is_read_again(own: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    door = open_door(kubeconfig(own, {"tokenFile": str(file)}))
    only(own, "first")
    assert answers(door)
    file.write_text("second")
    only(own, "second")
    assert answers(door)


def test_a_watch_outlives_the_token_it_began_with(own: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    watched = Watched(open_door(kubeconfig(own, {"tokenFile": str(file)})), NODES)
    only(own, "first")
    assert list(watched.items()) == []
    file.write_text("second")
    only(own, "second")
    own.faults.drop_watches()
    own.objects.create(*_a_node("late"))
    wait(lambda: [each["metadata"]["name"] for each in watched.items()] == ["late"])
    end(watched)


def test_credentials_that_are_refused_for_good_are_told(own: StandIn) -> None:
    door = open_door(kubeconfig(own, {"token": "wrong"}))
    only(own, "right")
    with pytest.raises(Refused, match="refuses these credentials"):
        door.list(NODES)


def test_a_plug_in_that_gives_no_token_any_more_is_told_and_breaks_no_watch(own: StandIn, tmp_path: Path) -> None:
    said = tmp_path / "said.json"
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    said.write_text(json.dumps({**credential, "status": {"token": "first"}}))
    command = ["-c", "import sys; print(open(sys.argv[1]).read())", str(said)]
    exec_ = {"apiVersion": credential["apiVersion"], "command": sys.executable, "args": command}
    door = open_door(kubeconfig(own, {"exec": {**exec_, "interactiveMode": "Never"}}))
    only(own, "first")
    watched = Watched(door, NODES)
    assert list(watched.items()) == []
    said.unlink()
    only(own, "second")
    with pytest.raises(Refused, match="refuses these credentials"):
        door.list(NODES)
    own.faults.drop_watches()
    said.write_text(json.dumps({**credential, "status": {"token": "second"}}))
    own.objects.create(*_a_node("late"))
    wait(lambda: len(watched.items()) == 1)
    assert any(each.name == "watch nodes" for each in threading.enumerate())
    end(watched)


def _a_node(name: str) -> Any:
    return resource_of("v1", "Node"), "", {"metadata": {"name": name}}
