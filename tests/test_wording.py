"""Pages, help texts, messages and docstrings use one word per thing, in short bullets, headed by what comes out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from engram_bench.reporting.words import OUTCOMES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
MODULES = [path for name in ("engram_bench", "benchmarks", "docs") for path in sorted((ROOT / name).rglob("*.py"))]
MAX_BULLET_WORDS = 60

SAY = {
    r"facts?(?![/.])": "pattern",
    r"trails?": "path",
    r"(?<!in )(?<!into )places?": "position",
    r"arms?": "variant",
    r"nobody's": "unmatched",
    r"teach(es|ing)?|taught": "target, reference",
    r"told": "computed",
    r"deeds?": "command",
    r"whoever": "user",
    r"rightly": "correct",
    r"anew": "again",
    r"read as it is": "matches no pattern",
}
"""Words that mean nothing to a stranger → what to say instead."""
FORBIDDEN = re.compile(rf"\b(?:{'|'.join(SAY)})\b", re.IGNORECASE)
NAMES = re.compile(
    r"engram-bench arms|--arms\S*|make arms|\barms\.(json|md|svg)|run, arms, demo|name: facts", re.IGNORECASE
)
"""The command that keeps its name, as pages and messages write it, and the name of a pattern set."""
CODE = re.compile(r"^( *)```.*?^\1```$|``.*?``|`[^`]*`|\]\([^)]*\)|<!--.*?-->", re.MULTILINE | re.DOTALL)

PREPOSITION = (
    "about|above|across|after|against|along|among|around|as|at|before|behind|below|beside|between|by|despite|during|except|"
    "for|from|in|inside|into|like|near|of|off|on|onto|out|outside|over|past|per|since|through|throughout|till|to|toward|"
    "under|until|up|upon|with|within|without"
)
VERB = "called|compute|computes|gives|keep|knows|leave|let|print|put|receives|train|trains|verify|how|where"


def prose(page: Path) -> str:
    return CODE.sub("…", page.read_text("utf-8"))


def found(text: str) -> list[str]:
    """The forbidden words of a text, each with what to say instead."""
    hits = (match for match in FORBIDDEN.finditer(NAMES.sub("", text)))
    return [f"{hit[0]} (say: {next(say for word, say in SAY.items() if re.match(word, hit[0], re.I))})" for hit in hits]


def strings(source: str) -> Iterator[tuple[int, str]]:
    """Texts of more than one word: messages, help texts, docstrings; without names such as keys and columns."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, CODE.sub("…", node.value)


@cache
def sources() -> dict[str, str]:
    return {module.relative_to(ROOT).as_posix(): module.read_text("utf-8") for module in MODULES}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Run engram-bench arms: it writes arms.json.", []),
        ("Values move in place; the file is renamed into place.", []),
        ("One place per arm, rightly told.", ["place", "arm", "rightly", "told"]),
        ("Trailing text, armed", []),
    ],
    ids=["command", "idiom", "private", "parts-of-words"],
)
def test_a_private_word_is_found(text: str, words: list[str]) -> None:
    assert [hit.partition(" ")[0] for hit in found(text)] == words


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_pages_use_no_private_word(page: Path) -> None:
    assert found(prose(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_no_bullet_is_longer_than_sixty_words(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)

    bullets = [match[0] for match in re.finditer(r"^ *(?:[-*]|\d+\.) .*(?:\n +\S.*)*", text, re.MULTILINE)]
    assert [bullet[:60] for bullet in bullets if len(bullet.split()) > MAX_BULLET_WORDS] == []


def test_the_help_of_the_makefile_uses_no_private_word() -> None:
    helps = [line.partition("## ")[2] for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if " ## " in line]

    assert len(helps) > 10
    assert [text for text in helps if found(text)] == []


def test_messages_help_texts_and_docstrings_use_no_private_word() -> None:
    suspects = {name: source for name, source in sources().items() if FORBIDDEN.search(source)}

    lines = [
        f"{name}:{line}: {', '.join(hits)}"
        for name, source in suspects.items()
        for line, text in strings(source)
        if (hits := found(text))
    ]
    assert lines == []


def test_no_docstring_starts_with_a_preposition() -> None:
    starts = [
        (f"{name}: {line[1]}", line[2])
        for name, source in sources().items()
        for line in re.finditer(r'^ *[rf]?"""((\w+).*)', source, re.MULTILINE)
    ]

    assert len(starts) > 1000
    assert [line for line, word in starts if re.fullmatch(PREPOSITION, word, re.I)] == []


def test_every_argument_is_described_by_what_it_is() -> None:
    described = [
        (f"{name}: {line[0].strip()}", line[1])
        for name, source in sources().items()
        for part in re.finditer(r"^( *)Args:\n((?:\1 +.*\n|\n)+)", source, re.MULTILINE)
        for line in re.finditer(rf"^{part[1]}    [\w*, ]+: (\w+).*", part[2], re.MULTILINE)
    ]

    assert len(described) > 300
    assert [line for line, word in described if re.fullmatch(f"{PREPOSITION}|{VERB}", word, re.I)] == []


def test_the_four_verdicts_are_the_same_in_code_and_on_the_page() -> None:
    page = (ROOT / "docs" / "gates.md").read_text("utf-8").partition("## Four verdicts")[2].partition("## ")[0]

    assert tuple(OUTCOMES.values()) == ("passed", "failed", "insufficient", "not measured")
    assert tuple(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)) == tuple(OUTCOMES.values())
