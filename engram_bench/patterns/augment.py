"""Other ways to ask a question, made by rule: for training only, never asserted.

Two sorts. A *prefix* (or an afterthought) leaves the question as it is and changes what surrounds it; it teaches that
the answer depends on the question and not on the first tokens. A *rephrase* turns the sentence round, so that the same
words meet in another order: ``Default port of SSH?`` → ``I need the default port of SSH.`` Both read as a person would
type them, and neither adds or drops a fact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How many further prompts each pattern is trained on, beside its own."""

    prefixes: int = 1
    """Variants with words put before or after the question."""
    rephrases: int = 1
    """Variants with the question turned round; prefixes where no rule fits."""
    wordings: bool = True
    """Train on a pattern's ``wordings`` too, and vary them as well."""


PREFIXES = (
    "Answer briefly: {}",
    "Short answer, please: {}",
    "Just the answer: {}",
    "Help me with this: {}",
    "I keep forgetting this. {}",
    "Hi! {}",
    "Please answer without an explanation: {}",
)
QUESTION_PREFIXES = ("Quick question: {}", "One question: {}", "Do you happen to know? {}")
AFTERTHOUGHTS = ("Just the answer, please.", "No explanation needed.", "Keep it short.")


def prefixed(text: str) -> list[str]:
    """*text* with words put before or after it, in a fixed order; at least one variant."""
    gap = "\n" if "\n" in text else " "
    ended = text if text[-1] in ".?!`\"'" else text + "."
    frames = PREFIXES + QUESTION_PREFIXES * text.endswith("?")
    return [frame.format(text) for frame in frames] + [f"{ended}{gap}{thought}" for thought in AFTERTHOUGHTS]


def rephrased(text: str) -> list[str]:
    """*text* turned round by every rule that fits, in a fixed order; empty if none does.

    Of several sentences only the last is turned round: the ones before it are the situation.
    """
    if split := _LAST_SENTENCE.fullmatch(text):
        situation, question = split["situation"], split["question"]
        return [f"{situation} {variant}" for variant in rephrased(question)]
    return [
        _capital(template.format_map({name: _lower_first(part) for name, part in match.groupdict().items()}))
        for rule, templates in _RULES
        if (match := rule.fullmatch(text))
        for template in templates
    ]


_LAST_SENTENCE = re.compile(r"(?P<situation>.*\S[.!?]) (?P<question>[A-Z][^?!.]*(?:[.][^\s?!.]+)*[^?!.]*[?.])")
_HEAD = (
    "argument|call|character|clause|code|command|descriptor|directive|exception|expression|flag|format|function|header|"
    "keyword|line|method|module|number|operator|option|package|port|sign|signal|slice|statement|status|type|value|variable"
)
_VERBS = (
    "Calculate|Change|Complete|Convert|Count|Encode|Express|Format|Percent-encode|Print|Put|Spell|Translate|Turn|Write"
)
_LANGUAGES = (
    "Bash|C|C[+]{2}|C#|CSS|Go|Git|HTML|Java|JavaScript|Kotlin|PHP|Python|R|Regex|Ruby|Rust|Shell|SQL|Swift|TypeScript"
)
_RULES = tuple(
    (re.compile(rule), templates)
    for rule, templates in (
        # What is the default port of SSH?
        (
            r"What(?: is|'s) (?P<thing>the .+)\?",
            ("Tell me {thing}.", "I need {thing}.", "Do you know {thing}?", "{thing}?"),
        ),
        # Default port of SSH?
        (
            r"(?P<thing>(?!Wh|How|Is |Are |Do |Does |Can |In |On )[\w' -]+ (?:of|for) (?:(?! (?:is|are|does|do) ).)+)\?",
            (
                "What is the {thing}?",
                "What's the {thing}?",
                "Tell me the {thing}.",
                "I need the {thing}.",
                "Do you know the {thing}?",
            ),
        ),
        # Which git command puts uncommitted changes aside?
        (
            rf"(?:Which|What) (?P<thing>(?:\S+ )??(?:\S+ )??(?:{_HEAD})) (?P<does>(?!does\b)\w+s .+)\?",
            (
                "Tell me the {thing} that {does}.",
                "I need the {thing} that {does}.",
                "What is the {thing} that {does}?",
                "Do you know which {thing} {does}?",
                "Name the {thing} that {does}.",
            ),
        ),
        (r"Which (?P<rest>.+)\?", ("What {rest}?",)),
        # How many bytes are in one KiB?
        (
            r"How many (?P<things>\S+ (?:are|is) .+)\?",
            ("Tell me how many {things}.", "Do you know how many {things}?", "I need to know how many {things}."),
        ),
        # How do I swap a and b in one line?
        (r"How (?:do|can) I (?P<act>.+)\?", ("How to {act}?", "Show me how to {act}.", "I want to {act}. How?")),
        # Write 255 in hexadecimal.
        (
            rf"(?P<act>(?:{_VERBS}) .+)\.",
            ("Please {act}.", "Can you {act}?", "How do I {act}?", "I need to {act}. What is it?"),
        ),
        # Python: swap the variables a and b
        (
            rf"(?P<Language>(?:{_LANGUAGES})(?: [\d.]+[+]?)?): (?P<Task>.+[^?.])",
            (
                "How do I write this in {Language}: {Task}?",
                "I need this in {Language}: {Task}",
                "Show me the {Language} for this: {Task}",
                "{Task}, in {Language}",
            ),
        ),
    )
)


def _lower_first(text: str) -> str:
    """*text* as it stands inside a sentence: ``Default port`` → ``default port``, ``HTTP status`` as it is."""
    first = text.split(maxsplit=1)[0]
    return text[0].lower() + text[1:] if first.istitle() and first not in _PROPER else text


_PROPER = frozenset(["Python", "Linux", "Unix", "Windows", "Docker", "Redis", *_LANGUAGES.split("|")])


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
