"""Flag beats ini key beats default; what cannot be read is quoted."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from engram_bench.errors import UsageError
from engram_bench.session.options import OPTIONS, Settings
from engram_bench.session.reading import read_settings

ROOT, CWD = Path("/project"), Path("/project/sub")


def read(flags: dict[str, object] | None = None, ini: dict[str, object] | None = None) -> Settings:
    return read_settings(flags or {}, ini or {}, root=ROOT, cwd=CWD)


def test_defaults_are_the_documented_ones() -> None:
    settings = read()

    assert (settings.backend, settings.model, settings.adapter) == ("auto", "smollm2-135m-instruct", "auto")
    assert settings.patterns == (ROOT / "patterns",)
    assert (settings.seed, settings.gate, settings.limit, settings.gate_only) == (0, (), None, False)


def test_flag_beats_ini_beats_default() -> None:
    assert read(ini={"engram_seed": "5"}).seed == 5
    assert read({"engram_seed": "7"}, {"engram_seed": "5"}).seed == 7


def test_shortcuts_are_a_list_with_commas() -> None:
    assert read({"engram_plain": "drafts, packing"}).plain == ("drafts", "packing")
    assert read(ini={"engram_plain": "all"}).plain == ("all",)
    assert read().plain == ()


def test_relative_paths_of_flags_are_under_the_working_folder() -> None:
    assert read({"engram_report_dir": "out"}).report_dir == CWD / "out"
    assert read(ini={"engram_report_dir": "out"}).report_dir == ROOT / "out"
    assert read({"engram_patterns": ["a", "/b"]}).patterns == (CWD / "a", Path("/b"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"engram_steps": "-1"}, "--engram-steps: got '-1', expected a whole number of at least 0"),
        ({"engram_seed": "1.5"}, "--engram-seed: got '1.5', expected a whole number from 0 to 4294967295"),
        (
            {"engram_kind": "memory:"},
            "--engram-kind: got 'memory:', expected lora, memory, both, memory:PRESET or both:PRESET",
        ),
        (
            {"engram_plain": "drafts,magic"},
            "--engram-plain: got 'drafts,magic', expected some of packing, prefix-cache, drafts, eviction, own-passes, "
            "presort, short-products, curriculum, activation-cache, with commas between them, or all",
        ),
        ({"engram_items": "file"}, "--engram-items: got 'file', expected one of pattern, category"),
        ({"engram_limit": "0"}, "--engram-limit: got '0', expected a whole number of at least 1"),
    ],
    ids=["negative", "fraction", "kind", "shortcut", "items", "zero"],
)
def test_unreadable_flag_is_quoted_with_what_was_expected(flags: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(flags)

    assert str(caught.value) == message


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_help_ends_with_the_default(option: object) -> None:
    parser = argparse.ArgumentParser()
    option.declare(parser.add_argument)  # type: ignore[attr-defined]

    text = " ".join(parser.format_help().split())

    assert f"--engram-{option.name}" in text  # type: ignore[attr-defined]
    assert option.action == "store_true" or "Default: " in text  # type: ignore[attr-defined]
