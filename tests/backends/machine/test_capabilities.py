"""Optional abilities are tried once, remembered, and turned off by a switch."""

from __future__ import annotations

import pytest

from engram_bench.backends.machine.capabilities import SWITCH, find, forget, switched_off

pytestmark = pytest.mark.usefixtures("untried")


def works() -> str:
    return ""


def raises() -> str:
    msg = "no such operator\nand a long list of those there are"
    raise AttributeError(msg)


def test_an_ability_whose_trial_finds_nothing_wrong_is_there() -> None:
    found = find("wings", works)

    assert (found.name, found.is_there, found.reason) == ("wings", True, "")


@pytest.mark.parametrize(
    ("trial", "reason"),
    [(lambda: "off by 0.2", "off by 0.2"), (raises, "AttributeError: no such operator")],
    ids=["wrong-result", "exception"],
)
def test_a_trial_that_goes_wrong_is_the_reason(trial: object, reason: str) -> None:
    found = find("wings", trial)  # type: ignore[arg-type]

    assert (found.is_there, found.reason) == (False, reason)


def test_an_interrupt_is_no_reason() -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find("wings", interrupted)

    assert find("wings", works).is_there


def test_an_ability_is_tried_once_in_a_process() -> None:
    first = find("wings", works)

    assert find("wings", raises) is first


@pytest.mark.parametrize(
    ("switch", "names"),
    [
        ("", ["wings", "gills"]),
        ("none", []),
        ("gills", ["gills"]),
        ("wings, gills", ["wings", "gills"]),
        ("win", []),
    ],
    ids=["unset", "none", "one", "list", "part-of-a-name"],
)
def test_the_switch_lists_the_abilities_that_may_be_tried(
    monkeypatch: pytest.MonkeyPatch, switch: str, names: list[str]
) -> None:
    monkeypatch.setenv(SWITCH, switch)

    assert [name for name in ("wings", "gills") if find(name, works).is_there] == names
    assert [name for name in ("wings", "gills") if not switched_off(name)] == names


def test_what_is_switched_off_is_not_tried_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "none")

    assert find("wings", raises).reason == "switched off by ENGRAM_CAPABILITIES=none"


def test_an_ability_is_tried_again_once_it_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "none")
    find("wings", works)
    monkeypatch.delenv(SWITCH)
    assert not find("wings", works).is_there

    forget()

    assert find("wings", works).is_there
