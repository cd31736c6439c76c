import json
from pathlib import Path

from engram_bench.patterns.schema import ENTRY_MODELS, pattern_schema, schema_text
from engram_bench.records import Pattern, PatternSet, SpeedPlan

SHIPPED = Path(__file__).parents[2] / "patterns" / "pattern.schema.json"


def test_the_shipped_schema_is_the_generated_one() -> None:
    how = "run: python -m engram_bench.patterns.schema patterns/pattern.schema.json"

    # as values: older releases of pydantic write 1.0 where newer ones write 1
    assert json.loads(SHIPPED.read_text("utf-8")) == json.loads(schema_text()), how


def test_every_field_of_a_record_is_a_key_of_the_file() -> None:
    definitions = pattern_schema()["$defs"]

    assert set(ENTRY_MODELS["memory"].model_fields) == {*Pattern.__dataclass_fields__} - {"source"}
    assert {*PatternSet.__dataclass_fields__} - {"path", "speed"} <= set(definitions["memory"]["properties"])
    assert {*SpeedPlan.__dataclass_fields__} <= set(definitions["speed"]["properties"])


def test_every_key_is_described() -> None:
    definitions = pattern_schema()["$defs"].values()

    undescribed = [
        key
        for definition in definitions
        for key, value in definition["properties"].items()
        if "description" not in value and key != "kind"
    ]

    assert undescribed == []


def test_patterns_may_be_called_examples() -> None:
    memory = pattern_schema()["$defs"]["memory"]

    assert memory["properties"]["examples"] == memory["properties"]["patterns"]
    assert memory["oneOf"] == [{"required": ["patterns"]}, {"required": ["examples"]}]
    assert memory["required"] == ["name"]


def test_an_output_is_required_of_a_memory_pattern_only() -> None:
    definitions = pattern_schema()["$defs"]

    assert definitions["PatternEntry"]["required"] == ["input", "output"]
    assert definitions["ControlEntry"]["required"] == ["input"]
