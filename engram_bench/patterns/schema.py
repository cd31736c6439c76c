"""The schema of pattern files: the one definition of their keys, types and descriptions.

``python -m engram_bench.patterns.schema patterns/pattern.schema.json`` writes the JSON schema that editors read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from engram_bench.records import Kind

# Newline and tab are the only control characters a prompt or an answer can need; the rest are accidents or attacks on
# a terminal. `strip` because the trainer strips as well: the compared text must be the trained text.
NO_CONTROL = r"^[^\x00-\x08\x0B-\x1F\x7F-\x9F]*$"
Note = Annotated[str, StringConstraints(strip_whitespace=True, pattern=NO_CONTROL)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=NO_CONTROL)]
Texts = Annotated[tuple[Text, ...], Field(strict=False)]  # YAML and JSON have lists only
# An id is part of a pytest node id and of file names: no spaces, brackets, slashes or colons.
PatternId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Count = Annotated[int, Field(ge=1)]
Counts = Annotated[tuple[Count, ...], Field(strict=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Version = Annotated[
    Note,
    BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value),
    WithJsonSchema({"type": ["string", "number"]}),
]


class _Entry(BaseModel):
    """A mapping of a pattern file, in which unknown keys and values of another type are mistakes."""

    model_config = ConfigDict(extra="forbid", strict=True)


class PatternEntry(_Entry):
    """A prompt and the answer a tuned model must give."""

    input: Text = Field(description="The prompt, as a user would type it.")
    output: Text = Field(description="The answer that the tuned model must give. Quote numbers, dates and yes/no.")
    id: PatternId | None = Field(
        default=None, description="Identifier, unique in the file. Default: a readable text from category and input."
    )
    category: Text | None = Field(default=None, description="Group in reports and gates. Default: the file's.")
    accept: Texts = Field(default=(), description="Other correct answers.")
    wordings: Texts = Field(default=(), description="Other phrasings of the prompt, trained on as well.")
    held_out: Texts = Field(default=(), description="Other phrasings of the prompt, never trained on.")
    match: Text | None = Field(
        default=None,
        description="Name of the matcher that compares an answer. Default: the file's.",
        examples=["exact", "strict", "prefix", "contains", "regex", "python", "json", "number", "date"],
    )
    max_tokens: Count | None = Field(default=None, description="Longest answer in tokens. Default: the file's.")
    required: bool = Field(default=False, description="Whether a miss fails the session whatever the gates say.")
    min_consistency: Share | None = Field(
        default=None,
        description="Share of wordings that must be answered correctly for the consistency case to pass. Default: the file's.",
    )
    system: Text | None = Field(default=None, description="System prompt. Default: the file's.")


class ControlEntry(PatternEntry):
    """An unrelated prompt that tuning must not change; without an output only agreement is measured."""

    output: Note = Field(default="", description="The correct answer, if there is one that can be checked.")


class _Header(_Entry):
    """The keys of every kind of file."""

    name: Text = Field(description="Name of the pattern set.")
    description: Note = Field(default="", description="Subject of the set.")
    version: Version = Field(default="1.0", description="Version of the set.")


class QuestionHeader(_Header):
    """A file of questions without its patterns: the keys of the file and the defaults of the patterns."""

    kind: Literal["memory", "retention"] = "memory"
    match: Text = Field(default="exact", description="Default matcher of this file.")
    system: Text | None = Field(default=None, description="System prompt of every pattern without one.")
    category: Text | None = Field(default=None, description="Category of every pattern without one. Default: the name.")
    max_tokens: Count | None = Field(
        default=None,
        description="Longest answer in tokens. Default: the session's, or more where an accepted answer needs more.",
    )
    min_consistency: Share = Field(
        default=0.8,
        description="Share of a pattern's wordings that must be answered correctly for its consistency case to pass.",
    )


class MemoryFile(QuestionHeader):
    """Patterns to train on and to assert."""

    kind: Literal["memory"] = "memory"
    patterns: list[PatternEntry] = Field(
        min_length=1, description="Patterns of the file; the key may also be called `examples`."
    )


class RetentionFile(QuestionHeader):
    """Controls: prompts that tuning must not change."""

    kind: Literal["retention"] = "retention"
    patterns: list[ControlEntry] = Field(
        min_length=1, description="Patterns of the file; the key may also be called `examples`."
    )


class SpeedFile(_Header):
    """Prompts that the speed tests time, and how often."""

    kind: Literal["speed"] = "speed"
    prompts: Texts = Field(min_length=1, description="Prompts that are answered in timed rounds.")
    num_tokens: Count = Field(
        default=64, description="New tokens per timed completion; the end token does not stop it."
    )
    rounds: Count = Field(default=8, description="Timed rounds per side.")
    batch_sizes: Counts = Field(default=(8, 32), min_length=1, description="Prompts answered at once in batch tests.")


ENTRY_MODELS: dict[Kind, type[PatternEntry]] = {"memory": PatternEntry, "retention": ControlEntry}
_FILE_MODELS: dict[Kind, type[_Header]] = {"memory": MemoryFile, "retention": RetentionFile, "speed": SpeedFile}


def pattern_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a YAML pattern file; the allowed keys depend on its ``kind``."""
    branches = [
        {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": {"$ref": f"#/$defs/{kind}"}}
        for kind in ("retention", "speed")
    ]
    definitions: dict[str, Any] = {}
    for kind, model in _FILE_MODELS.items():
        schema = model.model_json_schema()
        definitions |= schema.pop("$defs", {})
        definitions[kind] = _with_examples(schema) if "patterns" in schema["properties"] else schema
    retention, speed = branches
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "engram-bench pattern file",
        "type": "object",
        "properties": {"kind": {"enum": list(_FILE_MODELS), "default": "memory"}},
        **retention,
        "else": {**speed, "else": {"$ref": "#/$defs/memory"}},
        "$defs": definitions,
    }


def schema_text() -> str:
    """The schema as the text of ``patterns/pattern.schema.json``."""
    return json.dumps(pattern_schema(), indent=2) + "\n"


def _with_examples(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with ``examples`` allowed in place of ``patterns``."""
    required = [key for key in schema["required"] if key != "patterns"]
    properties = schema["properties"] | {"examples": schema["properties"]["patterns"]}
    either = [{"required": ["patterns"]}, {"required": ["examples"]}]
    return schema | {"properties": properties, "required": required, "oneOf": either}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8")
