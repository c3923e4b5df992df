"""A file or folder appears complete or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from symroof.files import replacing


def test_a_file_is_replaced_when_the_new_one_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "answer.txt"
    target.write_text("old")
    target.chmod(0o640)
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("new", 0o640)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("folder", [False, True])
def test_what_fails_leaves_the_old_one(folder: bool, tmp_path: Path) -> None:
    target = tmp_path / "answer"
    with replacing(target) as temporary:
        fill(temporary, "old", folder)
    with pytest.raises(KeyboardInterrupt):
        interrupted(target, folder)
    assert (target / "part" if folder else target).read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_and_put_back_where_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "store"
    for content in ("old", "new"):
        with replacing(target) as temporary:
            fill(temporary, content, True)
    assert (target / "part").read_text() == "new"

    def refuse(self: Path, other: Path) -> Path:
        raise OSError("no")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no"), replacing(target) as temporary:
        fill(temporary, "newer", True)
    assert (target / "part").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with replacing(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "link").is_symlink()


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append((tmp_path / "answer").exists()))
    with replacing(tmp_path / "answer") as temporary:
        temporary.write_text("42")
    assert seen == [False]


def interrupted(target: Path, folder: bool) -> None:
    """Ctrl-C while the file is written."""
    with replacing(target) as temporary:
        fill(temporary, "half", folder)
        raise KeyboardInterrupt


def fill(path: Path, content: str, folder: bool) -> None:
    """A file, or a folder with one file."""
    if folder:
        path.mkdir()
    (path / "part" if folder else path).write_text(content)
