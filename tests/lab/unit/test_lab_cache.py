"""The lab's cache: pieces are whole or not there, and named by what they are made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))


def test_a_piece_is_built_once() -> None:
    built = []

    def build(place: Path) -> None:
        built.append(place)
        (place / "content").write_text("x")

    first = cache.piece("thing", ["recipe"], build, what="a thing")
    second = cache.piece("thing", ["recipe"], build, what="a thing")
    assert first == second
    assert (first / "content").read_text() == "x"
    assert len(built) == 1


def test_an_interrupted_build_is_not_taken_for_a_good_one() -> None:
    def fail(place: Path) -> None:
        (place / "half").touch()
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        cache.piece("thing", ["recipe"], fail, what="a thing")
    place = cache.piece("thing", ["recipe"], lambda place: None, what="a thing")
    assert list(place.iterdir()) == []


def test_another_recipe_is_another_piece() -> None:
    first = cache.piece("thing", ["one"], lambda place: None, what="a thing")
    second = cache.piece("thing", ["two"], lambda place: None, what="a thing")
    assert first != second
    assert first.is_dir()


def test_the_name_covers_content_names_and_modes_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "recipe"
    folder.mkdir()
    script = folder / "script"
    script.write_text("echo")
    seen = [cache.digest([folder])]
    script.chmod(0o755)
    seen.append(cache.digest([folder]))
    script.write_text("printf")
    seen.append(cache.digest([folder]))
    script.rename(folder / "other")
    seen.append(cache.digest([folder]))
    assert len(set(seen)) == 4
    assert cache.digest([folder]) == seen[-1]
