"""``engram-bench arms``."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from engram_bench.session.variants import load_variants
from tests.cli.conftest import Shell

CONTROLS = """\
name: controls
kind: retention
patterns:
  - {id: sky, input: Colour of the sky?, output: blue, category: general}
  - {id: sea, input: Say something about the sea., category: general}
"""
TIMED = """\
name: speed
kind: speed
num_tokens: 2
rounds: 2
prompts: [Port of SSH?]
"""


@pytest.fixture
def prepared(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A wide terminal, two patterns and two controls; training makes the model forget one of the controls."""
    monkeypatch.setenv("COLUMNS", "160")
    shell.patterns(CONTROLS, "controls.yaml")
    shell.knows({"Colour of the sky?": "blue", "__after__": {"Colour of the sky?": "grey"}})
    return shell


def test_every_variant_is_a_row(prepared: Shell) -> None:
    rows = {row["arm"]: row for row in prepared.json("arms", "--arms=baseline,lora")["rows"]}

    assert [rows[name]["recall"]["value"] for name in ("baseline", "lora")] == [0.0, 1.0]
    assert [rows[name]["retention"]["value"] for name in ("baseline", "lora")] == [1.0, 0.0]
    assert [rows[name]["agreement"]["value"] for name in ("baseline", "lora")] == [1.0, 0.5]
    assert rows["lora"]["patterns"] == 2
    assert rows["lora"]["fires"]["value"] == 1.0


def test_wrapped_prompts_are_others_than_the_trained_ones(prepared: Shell) -> None:
    """The fake backend knows exactly the prompts of its training, word for word."""
    (row,) = prepared.json("arms", "--arms=lora")["rows"]

    assert (row["wrapped"]["passed"], row["wrapped"]["n"]) == (0, 2)


def test_the_table_has_a_line_per_variant_and_says_how_many_were_asked(prepared: Shell) -> None:
    output = prepared("arms", "--arms=baseline,lora")

    assert "lora             2   100.0" in output
    assert "n: 2 prompts, 2 held-out wordings, 2 controls, 1 known controls" in output


def test_results_are_left_for_pages(prepared: Shell) -> None:
    prepared("arms", "--arms=baseline,lora")

    assert [row.variant for row in load_variants(prepared.path / "reports" / "arms.json").rows] == ["baseline", "lora"]
    assert "| lora" in (prepared.path / "reports" / "arms.md").read_text("utf-8")
    plot = ElementTree.parse(prepared.path / "reports" / "plots" / "arms.svg").getroot()
    assert plot.tag == "{http://www.w3.org/2000/svg}svg"


def test_a_second_run_trains_nothing(prepared: Shell) -> None:
    prepared("arms", "--arms=lora")
    before = {path: path.stat().st_mtime_ns for path in (prepared.path / "adapters").rglob("*.safetensors")}
    prepared("arms", "--arms=lora")

    assert {path: path.stat().st_mtime_ns for path in (prepared.path / "adapters").rglob("*.safetensors")} == before


def test_a_given_adapter_is_taken_as_it_is(prepared: Shell) -> None:
    prepared("arms", "--arms=lora")
    (folder,) = (prepared.path / "adapters").glob("lora-*")
    given = folder.rename(prepared.path / "given")
    (row,) = prepared.json("arms", "--arms=lora", f"--adapter=lora={given}")["rows"]

    assert row["adapter"] == folder.name
    assert not list((prepared.path / "adapters").glob("lora-*"))


def test_decoding_is_timed_beside_the_bare_model(prepared: Shell) -> None:
    prepared.patterns(TIMED, "speed.yaml")
    baseline, lora = prepared.json("arms", "--arms=baseline,lora", "--speed")["rows"]

    assert lora["decode_ratio"]["n"] == 2
    assert baseline["decode_ratio"] is None


def test_rows_of_other_sizes_are_shown_too(prepared: Shell, tmp_path: Path) -> None:
    prepared("arms", "--arms=lora")
    small = (prepared.path / "reports" / "arms.json").rename(tmp_path / "small.json")
    prepared.patterns("name: more\npatterns:\n  - {input: Port of HTTP?, output: '80', category: ports}\n", "more.yaml")
    output = prepared("arms", "--arms=lora", f"--beside={small}")

    assert [line.split()[1] for line in output.splitlines() if line.startswith("lora  ")] == ["2", "3"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--arms=lore", "variant 'lore': expected baseline, or KIND or KIND+ROUTE of lora"),
        (
            "--arms=lora+maybe",
            "variant 'lora+maybe': expected baseline, or KIND or KIND+ROUTE of one of always, keys, state",
        ),
        ("--arms=,", "--arms: no variant is named, expected at least one"),
        ("--adapter=lora", "--adapter: got 'lora', expected VARIANT=PATH"),
        ("--adapter=other=x", "--adapter: got one for 'other', expected one of the variants"),
        ("--adapter=lora=a --adapter=lora=b", "for 'lora', expected one adapter per variant"),
        ("--beside=none.json", "none.json: cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_is_trained(
    prepared: Shell, argument: str, message: str
) -> None:
    prepared("arms", *argument.split(), status=3 if "beside" in argument else 2)

    assert message in prepared.errors
    assert not (prepared.path / "adapters").exists()
