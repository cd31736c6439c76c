"""One way to find pattern files, with links, for commands and pytest alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from engram_bench.patterns.find import configured_files, find_pattern_files
from engram_bench.patterns.load import load_pattern_file


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("name: x\npatterns:\n  - {input: a?, output: b}\n", "utf-8")


def found(*paths: str) -> list[str]:
    return [path.as_posix() for path in find_pattern_files(paths)]


def test_linked_folders_and_files_are_followed() -> None:
    write("patterns/a.yaml", "shared/b.yaml", "one.yaml")
    Path("patterns/linked").symlink_to("../shared")
    Path("patterns/c.yaml").symlink_to("../one.yaml")

    assert found("patterns") == ["patterns/a.yaml", "patterns/c.yaml", "patterns/linked/b.yaml"]


def test_a_link_that_leads_back_ends_the_search() -> None:
    write("patterns/a.yaml", "patterns/sub/b.yaml")
    Path("patterns/sub/up").symlink_to("..")
    Path("patterns/self").symlink_to(".")

    assert found("patterns") == ["patterns/a.yaml", "patterns/sub/b.yaml"]


def test_a_file_behind_several_links_counts_once_and_the_nearest_path_wins() -> None:
    write("patterns/shared/a.yaml")
    Path("patterns/again.yaml").symlink_to("shared/a.yaml")
    Path("patterns/other").symlink_to("shared")

    assert found("patterns", "patterns/shared") == ["patterns/again.yaml"]


def test_folders_that_pytest_leaves_out_are_left_out() -> None:
    write("patterns/a.yaml", "patterns/build/b.yaml", "patterns/venv/c.yaml", "patterns/.git/d.yaml")

    assert found("patterns") == ["patterns/a.yaml"]


def test_a_broken_link_is_no_file() -> None:
    write("patterns/a.yaml")
    Path("patterns/b.yaml").symlink_to("nowhere.yaml")

    assert found("patterns") == ["patterns/a.yaml"]


def test_configured_paths_that_are_missing_or_empty_have_no_files() -> None:
    Path("empty").mkdir()

    assert configured_files([Path("empty"), Path("nowhere")]) == {}


def test_a_file_behind_a_link_is_shown_where_the_user_sees_it() -> None:
    write("elsewhere/b.yaml", "project/patterns/a.yaml")
    Path("project/patterns/linked").symlink_to("../../elsewhere")

    loaded = load_pattern_file(Path("project/patterns/linked/b.yaml"), root=Path("project"))

    assert loaded.path == "patterns/linked/b.yaml"
