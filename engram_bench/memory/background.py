"""Ordinary questions: what people ask a model about anything. N-grams that stand in them tell no pattern from the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engram_bench.memory.reading import Reading, read_prompt
from engram_bench.records import Prompt

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer

_SUBJECTS = (
    "a black hole",
    "a contract",
    "a democracy",
    "a haiku",
    "a healthy breakfast",
    "a leap year",
    "a linked list",
    "a mortgage",
    "a rainbow",
    "a virus",
    "an operating system",
    "bread",
    "climate change",
    "cooking rice",
    "football",
    "gold",
    "inflation",
    "jazz music",
    "photosynthesis",
    "probability",
    "the Amazon rainforest",
    "the French Revolution",
    "the Roman Empire",
    "the heart",
    "the internet",
    "the moon",
    "the ocean",
    "the sun",
    "water",
    "yoga",
)
_FRAMES = (
    "What is {}?",
    "Tell me about {}.",
    "Why is {} important?",
    "How would you explain {} to a child?",
    "Write a short poem about {}.",
    "Give me three facts about {}.",
    "What do people often get wrong about {}?",
    "Can you recommend a book on {}?",
)
_SINGLE = (
    "Who wrote Don Quixote?",
    "Which animal is the fastest on land?",
    "How many legs does a spider have?",
    "What should I cook tonight?",
    "What time is it in Tokyo when it is noon in London?",
    "Translate 'good morning' into Italian.",
    "Summarise the plot of Hamlet in two sentences.",
    "How do I remove a coffee stain from a shirt?",
    "What is 12 times 12?",
    "Name a country in South America.",
    "What is the plural of mouse?",
    "How far is it from Paris to Berlin?",
    "Is it going to rain tomorrow?",
    "What is the best way to learn the piano?",
    "Which vitamins are in an orange?",
    "When was the telephone invented?",
    "How do airplanes stay in the air?",
    "What does this word mean: serendipity?",
    "Correct the spelling of 'recieve'.",
    "Give me a name for a small brown dog.",
)

QUESTIONS: tuple[str, ...] = (*_SINGLE, *(frame.format(subject) for subject in _SUBJECTS for frame in _FRAMES))


def background_readings(tokenizer: ChatTokenizer) -> list[Reading]:
    """Every ordinary question as it is asked, at the place that predicts the answer's first token."""
    readings = [read_prompt(tokenizer, Prompt(question)) for question in QUESTIONS]
    return [Reading(reading.ids, reading.content, len(reading.ids) - 1) for reading in readings]
