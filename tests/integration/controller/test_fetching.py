"""Files that MLflow keeps itself come whole to a folder, whoever is killed, and nothing else passes for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from controlplane.cli.model import app
from controlplane.domain.errors import Conflict, FleetuneError, InvalidInput, NotFound, Unavailable
from controlplane.host.digests import folder_digest
from controlplane.host.locks import alone
from controlplane.services.catalogue.fetch import Fetched, fetch_version
from tests.fakes.catalogue import FakeCatalogue
from tests.fakes.killing import Killed, Killer, Moment

MODEL, SOURCE = "Support Llama", "runs:/1/model"
FILES = {"config.json": b"{}", "weights/a.bin": b"a" * 1000, "weights/b.bin": b"b" * 2000}


def a_team(source: str = SOURCE, **tags: str) -> FakeCatalogue:
    team = FakeCatalogue()
    team.add(MODEL, source, tags={name.replace("_", "."): value for name, value in tags.items()})
    team.move_alias(MODEL, "candidate", "1")
    team.put(SOURCE, FILES)
    return team


def fetch(team: FakeCatalogue, folder: Path, *, version: str = "candidate", **limits: Any) -> Fetched:
    return fetch_version(team, team, model=MODEL, reference=version, folder=folder, **{"keep_free_gib": 0, **limits})


def in_folder(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def beside(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir()} - {folder.name, f"{folder.name}.lock"}


def test_a_version_comes_by_its_alias_and_the_catalogue_is_told_where_it_lies(tmp_path: Path) -> None:
    team, folder = a_team(), tmp_path / "llama"
    found = fetch(team, folder)
    assert (found.version, found.fetched, in_folder(folder)) == ("1", 3, FILES)
    tags = team.model(MODEL).versions[0].tags
    assert tags == {"fleetune.source": str(folder), "fleetune.digest": folder_digest(folder)}
    assert not beside(folder)
    again = fetch(team, folder)
    assert (again.fetched, len(team.given)) == (0, 3)


@pytest.mark.parametrize("moment", list(Moment))
def test_whichever_call_kills_it_the_next_one_goes_on_and_no_half_folder_is_ever_there(
    tmp_path: Path, moment: Moment
) -> None:
    at, survived = 0, False
    while not survived:
        at += 1
        team, folder = a_team(), tmp_path / f"llama-{at}"
        port = Killer(at=at, moment=moment).wrap(team)
        try:
            fetch_version(port, port, model=MODEL, reference="1", folder=folder, keep_free_gib=0)
            survived = True
        except Killed:
            assert not folder.exists() or in_folder(folder) == FILES
        had = len(team.given)
        fetch(team, folder)
        assert in_folder(folder) == FILES
        assert len(team.given) <= had + 3
        assert not {each for each in beside(folder) if each.startswith(f"{folder.name}.")}
    assert at > 4


def test_a_file_that_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    team, folder = a_team(), tmp_path / "llama"
    port = Killer(at=5, moment=Moment.BEFORE).wrap(team)  # the model, the list, two files
    with pytest.raises(Killed):
        fetch_version(port, port, model=MODEL, reference="1", folder=folder, keep_free_gib=0)
    assert fetch(team, folder).fetched == 1


REFUSED: dict[str, tuple[type[FleetuneError], str, dict[str, Any]]] = {
    "a version that is unknown": (NotFound, "no version '7' in MLflow", {"version": "7"}),
    "more than allowed": (InvalidInput, "too large", {"most_gib": 1e-9}),
    "a disk that is full": (InvalidInput, "does not fit on the disk", {"keep_free_gib": 1e9}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_fetched(tmp_path: Path, what: str) -> None:
    kind, says, given = REFUSED[what]
    team = a_team()
    with pytest.raises(kind, match=says):
        fetch(team, tmp_path / "llama", **given)
    assert not team.given


def test_what_is_not_mlflows_to_give_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is not kept in MLflow"):
        fetch(a_team("s3://models/a"), tmp_path / "llama")


def test_files_that_are_not_what_their_digest_says_are_removed(tmp_path: Path) -> None:
    team, folder = a_team(fleetune_digest="sha256:" + "0" * 64), tmp_path / "llama"
    with pytest.raises(InvalidInput, match=r"is not what its tag fleetune\.digest says"):
        fetch(team, folder)
    assert not folder.exists()
    assert not beside(folder)


def test_a_file_that_ends_too_soon_is_no_file(tmp_path: Path) -> None:
    team, folder = a_team(), tmp_path / "llama"
    team.cut_at = 1500
    with pytest.raises(Unavailable, match="1500 of 2000 bytes"):
        fetch(team, folder)
    team.cut_at = None
    assert fetch(team, folder).fetched == 1
    assert in_folder(folder) == FILES


def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    team = a_team()
    team.put(SOURCE, {"../../etc/passwd": b"x"})
    with pytest.raises(InvalidInput, match="outside of it"):
        fetch(team, tmp_path / "llama")
    assert not team.given


def test_the_command_says_what_it_lacks(tmp_path: Path) -> None:
    words = ["fetch", MODEL, "1", "--to", str(tmp_path / "llama"), "--data-dir", str(tmp_path)]
    for more, says in (([], "none is named"), (["--mlflow-url", "http://ann:secret@mlflow"], "holds a password")):
        told = CliRunner().invoke(app, [*words, *more])
        said = " ".join(told.output.split())
        assert (told.exit_code, says in said, "secret@" in said) == (2, True, False), said


def test_a_folder_with_something_else_stays_and_two_at_once_are_one(tmp_path: Path) -> None:
    team, folder = a_team(), tmp_path / "llama"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    with pytest.raises(Conflict, match="is there already"):
        fetch(team, folder)
    other = tmp_path / "other"
    with alone(tmp_path / "other.lock", what="held"), pytest.raises(Conflict, match="somebody else fetches"):
        fetch(team, other)
    assert in_folder(folder) == {"mine": b"mine"}
