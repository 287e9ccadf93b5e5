"""What a repository of manifests does: in memory, and as git on a bare repository."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pytest
from pydantic import ValidationError

from controlplane.adapters.manifests_git import GitManifests
from controlplane.domain.cluster import CommitOptions
from controlplane.domain.errors import Conflict, InvalidInput, Unavailable
from controlplane.ports.manifests import ManifestRepository
from controlplane.reading.problems import describe
from tests.fakes.manifest_repository import FakeManifestRepository

FILE = "fleet/chat.yaml"
BRANCH = "fleet"


class Subject(Protocol):
    def open(self) -> ManifestRepository: ...
    def text(self, path: str) -> str: ...
    def subjects(self) -> Sequence[str]: ...
    def edit(self, path: str, text: str) -> None: ...


class FakeSubject:
    def __init__(self) -> None:
        self._made = FakeManifestRepository()

    def open(self) -> ManifestRepository:
        return self._made

    def text(self, path: str) -> str:
        return self._made.files[path]

    def subjects(self) -> Sequence[str]:
        return self._made.commits

    def edit(self, path: str, text: str) -> None:
        self._made.edit(path, text)


class GitSubject:
    """A bare repository; everybody has a clone of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.bare = folder, folder / "bare.git"
        git("init", "--quiet", "--bare", str(self.bare))

    def open(self) -> ManifestRepository:
        return GitManifests(self.options())

    def options(self, **more: str) -> CommitOptions:
        return CommitOptions.model_validate({"repository": str(self.bare), "branch": BRANCH, **more})

    def text(self, path: str) -> str:
        return git("show", f"{BRANCH}:{path}", at=self.bare)

    def subjects(self) -> Sequence[str]:
        return git("log", "--reverse", "--format=%s", BRANCH, at=self.bare).splitlines()

    def edit(self, path: str, text: str) -> None:
        clone = self._folder / "other"
        git("clone", "--quiet", "--branch", BRANCH, str(self.bare), str(clone))
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text)
        git("add", ".", at=clone)
        git("-c", "user.name=Ann", "-c", "user.email=ann@example.com", "commit", "--quiet", "-m", "by hand", at=clone)
        git("push", "--quiet", "origin", BRANCH, at=clone)


def git(*words: str, at: Path | None = None) -> str:
    return subprocess.run(["git", *words], cwd=at, check=True, capture_output=True, text=True).stdout


@pytest.fixture(params=["fake", "git"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    return FakeSubject() if request.param == "fake" else GitSubject(tmp_path)


def test_what_is_written_is_one_commit_of_exactly_this_text(subject: Subject) -> None:
    commit = subject.open().write(FILE, "a: 1\n", subject="Roll out rev-1")
    assert commit
    assert (subject.text(FILE), list(subject.subjects())) == ("a: 1\n", ["Roll out rev-1"])


def test_writing_the_same_again_is_no_other_commit(subject: Subject) -> None:
    first = subject.open().write(FILE, "a: 1\n", subject="Roll out rev-1")
    second = subject.open().write(FILE, "a: 1\n", subject="Roll out rev-1")
    assert (first == second, list(subject.subjects())) == (True, ["Roll out rev-1"])


def test_a_later_text_follows_and_other_files_stay(subject: Subject) -> None:
    subject.open().write(FILE, "a: 1\n", subject="one")
    subject.open().write("fleet/other.yaml", "b: 1\n", subject="other")
    subject.open().write(FILE, "a: 2\n", subject="two")
    assert (subject.text(FILE), subject.text("fleet/other.yaml")) == ("a: 2\n", "b: 1\n")
    assert list(subject.subjects()) == ["one", "other", "two"]


def test_what_somebody_else_changed_is_not_overwritten_and_said(subject: Subject) -> None:
    subject.open().write(FILE, "a: 1\n", subject="one")
    subject.edit(FILE, "a: 7\n")
    with pytest.raises(Conflict, match="by hand"):
        subject.open().write(FILE, "a: 2\n", subject="two")
    assert subject.text(FILE) == "a: 7\n"


# -- git alone


@pytest.fixture
def bare(tmp_path: Path) -> GitSubject:
    return GitSubject(tmp_path)


class Late(GitManifests):
    """Somebody else pushes between its clone and its first push."""

    def __init__(self, options: CommitOptions) -> None:
        super().__init__(options)
        self._others = [GitManifests(options)]

    def _push(self, clone: Path) -> bool:
        for other in [self._others.pop() for _ in list(self._others)]:
            other.write("theirs.yaml", "b: 1\n", subject="theirs")
        return super()._push(clone)


def test_others_who_push_to_the_branch_meanwhile_lose_nothing(bare: GitSubject) -> None:
    bare.open().write(FILE, "a: 1\n", subject="one")
    Late(bare.options()).write(FILE, "a: 2\n", subject="two")
    assert list(bare.subjects()) == ["one", "theirs", "two"]


def test_a_branch_that_is_not_there_begins_from_the_repository_s_own(bare: GitSubject) -> None:
    GitManifests(bare.options(branch="main")).write("apps/a.yaml", "a: 1\n", subject="main")
    git("symbolic-ref", "HEAD", "refs/heads/main", at=bare.bare)
    bare.open().write(FILE, "b: 1\n", subject="fleet")
    assert list(bare.subjects()) == ["main", "fleet"]
    assert git("log", "--format=%s", "main", at=bare.bare).splitlines() == ["main"]


def test_a_repository_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    nowhere = GitManifests(CommitOptions(repository=str(tmp_path / "nowhere")))
    with pytest.raises(Unavailable, match="cannot be written to: fatal"):
        nowhere.write(FILE, "a: 1\n", subject="one")


def test_a_link_that_leads_out_of_the_repository_is_not_followed(bare: GitSubject, tmp_path: Path) -> None:
    bare.open().write(FILE, "a: 1\n", subject="one")
    clone = tmp_path / "linked"
    git("clone", "--quiet", "--branch", BRANCH, str(bare.bare), str(clone))
    (clone / "out").symlink_to(tmp_path)
    git("add", ".", at=clone)
    git("-c", "user.name=Ann", "-c", "user.email=ann@example.com", "commit", "--quiet", "-m", "link", at=clone)
    git("push", "--quiet", "origin", BRANCH, at=clone)
    with pytest.raises(InvalidInput, match="leads out of"):
        bare.open().write("out/chat.yaml", "a: 1\n", subject="two")
    assert not (tmp_path / "chat.yaml").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"repository": "https://user:secret@host/repo.git"},
        {"repository": "--upload-pack=touch x"},
        {"repository": "ext::sh -c x"},
        {"branch": "a..b"},
        {"branch": "-x"},
        {"folder": "../up"},
        {"folder": "/etc"},
    ],
)
def test_what_git_could_take_for_something_else_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as error:
        CommitOptions.model_validate({"repository": "/srv/fleet.git", **wrong})
    said = describe(error.value, CommitOptions)
    assert next(iter(wrong)) in said
    assert "secret" not in said
