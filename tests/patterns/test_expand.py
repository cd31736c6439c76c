from dataclasses import replace

from engram_bench.patterns.expand import (
    accuracy_cases,
    case_id,
    generalization_cases,
    retention_cases,
    wording_cases,
)
from engram_bench.records import Case, Pattern, PatternSet, Prompt, SourceLine

SOURCE = SourceLine("patterns/facts.yaml", 7)
SSH = Pattern(
    id="ssh",
    input="Port of SSH?",
    output="22",
    category="ports",
    source=SOURCE,
    accept=("22/tcp",),
    wordings=("Which port is SSH's?",),
    held_out=("Where does sshd listen?", "What do I open for SSH?"),
    match="number",
    max_tokens=4,
    required=True,
    system="Be brief.",
)
DNS = Pattern("dns", "Port of DNS?", "53", "ports", SOURCE)
FACTS = PatternSet("Facts", "patterns/facts.yaml", patterns=(SSH, DNS))
CONTROLS = PatternSet("Controls", "patterns/controls.yaml", "retention", patterns=(replace(DNS, output=""),))


def test_an_accuracy_case_is_the_prompt_as_written() -> None:
    ssh, dns = accuracy_cases(FACTS)

    assert ssh == Case(
        id="facts/ssh",
        pattern_id="ssh",
        set_name="facts",
        prompt=Prompt("Port of SSH?", "Be brief."),
        answers=("22", "22/tcp"),
        match="number",
        split="seen",
        category="ports",
        source=SOURCE,
        max_tokens=4,
        required=True,
    )
    assert (dns.id, dns.prompt, dns.answers) == ("facts/dns", Prompt("Port of DNS?"), ("53",))


def test_a_generalization_case_is_a_held_out_wording() -> None:
    cases = list(generalization_cases(FACTS))

    assert [(case.id, case.prompt.user, case.split) for case in cases] == [
        ("facts/ssh/held-1", "Where does sshd listen?", "held_out"),
        ("facts/ssh/held-2", "What do I open for SSH?", "held_out"),
    ]
    assert {(case.pattern_id, case.prompt.system, case.answers) for case in cases} == {
        ("ssh", "Be brief.", ("22", "22/tcp"))
    }


def test_wording_cases_are_all_ways_to_ask_with_their_split() -> None:
    assert [(case.id, case.split) for case in wording_cases(SSH)] == [
        ("facts/ssh", "seen"),
        ("facts/ssh/wording-1", "seen"),
        ("facts/ssh/held-1", "held_out"),
        ("facts/ssh/held-2", "held_out"),
    ]


def test_a_retention_case_may_have_no_answer() -> None:
    (case,) = retention_cases(CONTROLS)

    assert (case.split, case.answers) == ("control", ())


def test_a_set_has_cases_of_its_kind_only() -> None:
    assert list(retention_cases(FACTS)) == []
    assert [*accuracy_cases(CONTROLS), *generalization_cases(CONTROLS)] == []


def test_a_case_id_begins_with_the_stem_of_the_file() -> None:
    assert case_id(SSH) == "facts/ssh"
