"""The values that travel through the package: frozen, comparable, without I/O.

The journey is patterns → cases → training → completions → results → comparison.
"""

from engram_bench.records.answers import (
    CaseResult,
    Completion,
    DeviceInfo,
    GenerationSettings,
    Score,
    ScoreOutcome,
    Side,
    StopReason,
)
from engram_bench.records.comparison import (
    Comparison,
    Estimate,
    LedgerEntry,
    Measure,
    SpeedSummary,
    State,
    Verdict,
    VerdictOutcome,
)
from engram_bench.records.patterns import Case, Kind, Pattern, PatternSet, Prompt, SourceLine, SpeedPlan, Split
from engram_bench.records.runs import GuardOutcome, GuardResult, Provenance, Run, SpeedRounds, SweepPoint, Timing
from engram_bench.records.search import Trial, TrialState
from engram_bench.records.training import LORA_TARGETS, Recipe, TrainingExample, TrainingRecord

__all__ = [
    "LORA_TARGETS",
    "Case",
    "CaseResult",
    "Comparison",
    "Completion",
    "DeviceInfo",
    "Estimate",
    "GenerationSettings",
    "GuardOutcome",
    "GuardResult",
    "Kind",
    "LedgerEntry",
    "Measure",
    "Pattern",
    "PatternSet",
    "Prompt",
    "Provenance",
    "Recipe",
    "Run",
    "Score",
    "ScoreOutcome",
    "Side",
    "SourceLine",
    "SpeedPlan",
    "SpeedRounds",
    "SpeedSummary",
    "Split",
    "State",
    "StopReason",
    "SweepPoint",
    "Timing",
    "TrainingExample",
    "TrainingRecord",
    "Trial",
    "TrialState",
    "Verdict",
    "VerdictOutcome",
]
