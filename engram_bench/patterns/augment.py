"""Other phrasings of a question, made by rules: they are trained on and never asserted.

A *prefix* (or an afterthought) keeps the question and changes the text around it, so that the answer depends on the
question and not on the first tokens. A *rephrase* changes the order of the words: ``Default port of SSH?`` → ``I need the
default port of SSH.`` Both read as a person would type them, and neither adds, drops or changes any meaning. A rule that
does not fit gives no phrasing, because no phrasing is better than an odd one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Number of further prompts that each pattern is trained on, beside its own.

    Each of the pattern's ``wordings`` replaces one of them, a prefix first, because a person's wording is worth more.
    """

    prefixes: int = 1
    """Number of phrasings with words before or after the question."""
    rephrases: int = 1
    """Number of phrasings with another order of words; prefixes fill up where too few rules fit."""
    wordings: bool = True
    """Whether a pattern's ``wordings`` are trained on too, with further phrasings made of them."""


AS_WRITTEN = Augmentation(prefixes=0, rephrases=0)
"""Augmentation that adds no phrasings: prompts and wordings only."""

PREFIXES = (
    "Answer briefly: {}",
    "Short answer, please: {}",
    "Just the answer: {}",
    "Help me with this: {}",
    "I keep forgetting this. {}",
    "Hi! {}",
    "Please answer without an explanation: {}",
)
QUESTION_PREFIXES = ("Quick question: {}", "One question: {}", "Do you happen to know this? {}")
AFTERTHOUGHTS = ("Just the answer, please.", "No explanation needed.", "Keep it short.")


def prefixed(text: str) -> list[str]:
    """Phrasings of *text* with words before or after it, in a fixed order; never empty."""
    frames = PREFIXES + (QUESTION_PREFIXES if text.endswith("?") else ())
    ended = text if text[-1] in ".?!" else f"{text}."
    gap = "\n" if "\n" in text else " "
    return [frame.format(text) for frame in frames] + [f"{ended}{gap}{thought}" for thought in AFTERTHOUGHTS]


def rephrased(text: str) -> list[str]:
    """Phrasings of *text* in another order of words, by every rule that fits; empty where no rule fits.

    Of several sentences only the last is rephrased: the ones before it describe the situation.
    """
    if sentences := _LAST_SENTENCE.fullmatch(text):
        return [f"{sentences['situation']} {variant}" for variant in rephrased(sentences["question"])]
    return [
        _capital(template.format_map({name: _inside(part) for name, part in match.groupdict().items()}))
        for rule, templates in _RULES
        if (match := rule.fullmatch(text))
        for template in templates
    ]


_LAST_SENTENCE = re.compile(r"(?P<situation>.*\S[.!?]) (?P<question>[A-Z](?:[^?!.]|[.](?! ))*[?.])")

# Nouns that a question may ask for by effect: "Which <noun> <does something>?"
_NOUN = (
    "argument|call|character|clause|code|command|descriptor|directive|exception|expression|flag|format|function|header|"
    "keyword|line|method|module|number|operator|option|package|port|query|sign|signal|slice|statement|status|type|"
    "value|variable"
)
_ACT = "Calculate|Change|Complete|Convert|Encode|Express|Format|Percent-encode|Print|Put|Spell|Translate|Turn|Write"
_DO = (
    "append|concatenate|convert|count|create|delete|find|flatten|follow|get|insert|join|merge|open|parse|read|remove|"
    "rename|replace|reverse|sort|split|swap|unpack|write"
)
_MADE = "call|clause|command|comprehension|expression|f-string|function|header|line|list|loop|query|statement"
_LANGUAGE = "Bash|C|C[+]{2}|C#|CSS|Go|Git|HTML|Java|JavaScript|Kotlin|PHP|Python|R|Ruby|Rust|Shell|SQL|Swift|TypeScript"
_RULES = tuple(
    (re.compile(rule), templates)
    for rule, templates in (
        # What is the default port of SSH?
        (
            r"What(?: is|'s) the (?P<thing>.+)\?",
            ("Tell me the {thing}.", "I need the {thing}.", "Do you know the {thing}?", "{thing}?"),
        ),
        # Default port of SSH?
        (
            r"(?P<thing>(?!Wh|How |Is |Are |Do |Does |Can |In |On |At )[\w' -]+ (?:of|for) "
            r"(?:(?! (?:is|are|does|do) ).)+)\?",
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
            rf"(?:Which|What) (?P<thing>(?:\S+ ){{0,3}}?(?:{_NOUN})) "
            rf"(?P<does>(?!(?:does|(?:{_NOUN})e?s)\b)\w+s(?: .+)?)\?",
            (
                "Tell me the {thing} that {does}.",
                "I need the {thing} that {does}.",
                "What is the {thing} that {does}?",
                "Do you know which {thing} {does}?",
                "Name the {thing} that {does}.",
            ),
        ),
        # Which line do I add?
        (
            rf"(?:Which|What) (?P<thing>(?:\S+ ){{0,3}}?(?:{_NOUN})) (?:do|can|should|must) I (?P<act>.+)\?",
            ("Tell me which {thing} to {act}.", "I need to know which {thing} to {act}."),
        ),
        (r"What (?:do|can|should|must) I (?P<act>.+)\?", ("Tell me what to {act}.", "I need to know what to {act}.")),
        (r"Which (?P<rest>.+)\?", ("What {rest}?",)),
        # How many bytes are in one KiB?
        (
            r"How many (?P<things>\S+ (?:are|is) .+)\?",
            ("Tell me how many {things}.", "Do you know how many {things}?", "I need to know how many {things}."),
        ),
        # How do I swap a and b in one line?
        (
            r"How (?:do|can) I (?P<act>.+)\?",
            ("How can I {act}?", "How to {act}?", "Show me how to {act}.", "I want to {act}. How?"),
        ),
        # Write 255 in hexadecimal.
        (
            rf"(?P<act>(?:{_ACT}) .+)\.",
            ("Please {act}.", "Can you {act}?", "Could you {act}?", "How do I {act}?", "I need to {act}."),
        ),
        # Python: swap the variables a and b
        (
            rf"(?P<language>(?:{_LANGUAGE})(?: [\d.]+[+]?)?): (?P<task>.+[^?.])",
            (
                "How do I write this in {language}: {task}?",
                "I need this in {language}: {task}",
                "Show me the {language} for this: {task}",
                "{task}, in {language}",
            ),
        ),
        (
            rf"(?P<language>(?:{_LANGUAGE})(?: [\d.]+[+]?)?): (?P<task>(?:{_DO}) (?!of ).+[^?.])",
            (
                "How do I {task} in {language}?",
                "In {language}, how do I {task}?",
                "Show me how to {task} in {language}.",
                "I want to {task} in {language}.",
            ),
        ),
        (
            rf"(?P<language>(?:{_LANGUAGE})(?: [\d.]+[+]?)?): (?P<task>(?:\S+ ){{0,2}}?(?:{_MADE}) .+[^?.])",
            (
                "What is the {language} {task}?",
                "I need the {language} {task}.",
                "Tell me the {language} {task}.",
            ),
        ),
    )
)
_PROPER = frozenset(["Python", "Linux", "Unix", "Windows", "Docker", "Redis", *_LANGUAGE.split("|")])


def _inside(text: str) -> str:
    """*text* in the middle of a sentence: ``Default port`` → ``default port``, but ``HTTP status`` and ``Python`` stay."""
    first = re.split(r"[\s-]", text, maxsplit=1)[0]
    return text[0].lower() + text[1:] if first.istitle() and first not in _PROPER else text


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
