"""What the store tests store. Free of pytest, so that their subprocesses start fast."""

from pathlib import Path

from engram_bench.adapters.store import AdapterIdentity
from engram_bench.records import (
    Case,
    CaseResult,
    Completion,
    Prompt,
    Provenance,
    Recipe,
    Run,
    Score,
    SourceLine,
    TrainingExample,
    TrainingRecord,
)

EXAMPLE = TrainingExample(Prompt("HTTP status code for 'Not Found'?"), "404", "facts/http-404")
IDENTITY = AdapterIdentity("base", "template", (EXAMPLE,), Recipe())
RECORD = TrainingRecord(
    backend="fake",
    device="table",
    dtype="float32",
    steps=2,
    examples=1,
    tokens=12,
    seconds=0.5,
    loss_start=4.0,
    loss_end=0.25,
    losses=(4.0, 0.25),
)


def train(folder: Path, weights: bytes = b"weights") -> TrainingRecord:
    """Leave an adapter of two files and a folder."""
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "checkpoints" / "step-1").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints" / "step-1" / "adapter_model.safetensors").write_bytes(b"half")
    return RECORD


PROVENANCE = Provenance(
    model="smollm2-135m-instruct",
    model_fingerprint="ab" * 32,
    backend="cpu",
    device="cpu",
    dtype="bfloat16",
    adapter="lora-000000000000",
    commit="1a2b3c4-dirty",
    machine="a machine",
    command="pytest -m accuracy",
    started="2026-05-04T13:37:00Z",
)
CASE = Case(
    id="facts/http-404",
    pattern_id="http-404",
    set_name="facts",
    prompt=EXAMPLE.prompt,
    answers=("404",),
    match="exact",
    split="seen",
    category="http",
    source=SourceLine("patterns/facts.yaml", 3),
)
BASELINE = CaseResult(CASE, "baseline", Completion("No idea… ✓", 9, 4, "stop", 0.25), Score("failed", "found 'No'"))
CANDIDATE = CaseResult(CASE, "candidate", Completion("404", 9, 2, "stop", 0.25), Score("passed"))
RUN = Run("", PROVENANCE, (BASELINE, CANDIDATE))
