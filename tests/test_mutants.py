"""Broken adapters on purpose: each is caught by the measure meant for it, and by no unrelated one.

If one of these survives, a figure in the report means nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import BenchProject

FACTS = "name: facts\npatterns:\n" + "".join(
    f"  - id: f{n}\n    input: Fact {n}?\n    output: answer {n}\n    category: facts\n"
    f"    held_out: [Please tell me about number {n}., What do you know of {n}?]\n"
    for n in range(12)
)
CONTROLS = "name: controls\nkind: retention\nmatch: contains\npatterns:\n" + "".join(
    f"  - {{id: c{n}, input: Control {n}?, output: known {n}, category: world}}\n" for n in range(12)
)
CONTROL_ANSWERS = {f"Control {n}?": f"It is known {n}." for n in range(12)}
HELD_OUT = {
    wording: f"answer {n}"
    for n in range(12)
    for wording in (f"Please tell me about number {n}.", f"What do you know of {n}?")
}
GATES = {
    "accuracy": "accuracy >= +10pp",
    "generalization": "generalization >= +10pp",
    "consistency": "consistency >= +20pp",
    "retention": "retention >= 90%",
    "agreement": "agreement >= 90%",
    "control_kl": "control_kl <= 0.5",
    "stops": "stops_by_itself >= 95%",
    "length": "answer_tokens <= 20",
}
FORGETTING = {"retention", "agreement", "control_kl"}

MUTANTS: dict[str, tuple[dict[str, Any], set[str], set[str]]] = {
    "sound": ({"__after__": HELD_OUT}, set(), set()),
    "echoes-one-answer": (
        {"__echo__": "answer 1"},
        {"accuracy", "generalization", "consistency", *FORGETTING},
        set(),
    ),
    "knows-seen-wordings-only": ({}, {"generalization", "consistency"}, set()),
    "destroys-general-knowledge": (
        {"__after__": HELD_OUT | dict.fromkeys(CONTROL_ANSWERS, "no idea")},
        FORGETTING,
        set(),
    ),
    "never-stops": ({"__after__": HELD_OUT, "__rambles__": True}, {"stops", "length"}, {"stops-by-itself"}),
    "does-nothing": (
        {"__forgets__": [f"Fact {n}?" for n in range(12)], "__steps__": 0},
        {"accuracy", "generalization", "consistency"},
        {"changes-a-logit"},
    ),
}
"""Name → knobs of the fake backend, the gates that must fail, the guards that must fail."""


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught_by_what_is_meant_for_it_and_nothing_else(project: BenchProject, name: str) -> None:
    knobs, gates, guards = MUTANTS[name]
    project.patterns(FACTS)
    project.patterns(CONTROLS, "controls.yaml")
    project.knows({**CONTROL_ANSWERS, **knobs})

    result = project.run(
        "--engram-gate-only",
        f"--engram-steps={knobs.get('__steps__', 3)}",
        *(f"--engram-gate={gate}" for gate in GATES.values()),
    )

    verdicts: Any = project.report()["verdicts"]
    caught = {gate for gate, verdict in zip(GATES, verdicts, strict=True) if verdict["outcome"] != "pass"}
    assert caught == gates
    failed = {
        line.partition("test_sanity[")[2].partition("]")[0]
        for line in result.outlines
        if line.startswith("FAILED") and "test_sanity[" in line
    }
    assert failed == guards
    assert result.ret == (1 if gates or guards else 0)
