"""The values that travel through the building: frozen, comparable, without I/O.

Order of the file is order of the journey: patterns → cases → training → completions → results → comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["memory", "retention", "speed"]
Split = Literal["seen", "held_out", "control"]
Side = Literal["baseline", "candidate", "fused"]
StopReason = Literal["stop", "length"]
ScoreOutcome = Literal["passed", "failed", "not_scored"]
State = Literal["fixed", "broken", "still_right", "still_wrong"]
GuardOutcome = Literal["holds", "broken", "not_told"]
VerdictOutcome = Literal["pass", "fail", "insufficient", "not_measured"]

# ── patterns ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of a pattern file, as error messages and annotations name it."""

    path: str
    line: int
    """1-based."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked: one user turn, with an optional system turn before it."""

    user: str
    system: str | None = None
    """None leaves the chat template's own default system turn in place."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One entry of a pattern file, defaults of the file already applied."""

    id: str
    """Unique in its file; stable under reordering."""
    input: str
    output: str
    """The answer a tuned model must give; empty only in a control without an answer."""
    category: str
    source: SourceLine
    accept: tuple[str, ...] = ()
    """Other right answers."""
    wordings: tuple[str, ...] = ()
    """Other phrasings that are trained on as well."""
    held_out: tuple[str, ...] = ()
    """Other phrasings that are never trained on."""
    match: str = "exact"
    max_tokens: int | None = None
    """Per-pattern limit; None takes the session's."""
    required: bool = False
    """A miss fails the session whatever the gates say."""
    min_consistency: float = 0.8
    """Share of wordings that must be right for the consistency case to pass, 0..1."""
    system: str | None = None

    @property
    def answers(self) -> tuple[str, ...]:
        """Every accepted answer, the preferred one first; empty for a control without one."""
        return (self.output, *self.accept) if self.output else ()


@dataclass(frozen=True, slots=True)
class SpeedPlan:
    """What a ``kind: speed`` file asks to be timed."""

    prompts: tuple[str, ...]
    num_tokens: int = 64
    """New tokens per timed completion; the end token is ignored."""
    rounds: int = 8
    """Timed rounds per side."""
    batch_sizes: tuple[int, ...] = (8, 32)


@dataclass(frozen=True, slots=True)
class PatternSet:
    """One pattern file."""

    name: str
    path: str
    """As given to the loader (relative to the project where possible)."""
    kind: Kind = "memory"
    description: str = ""
    version: str = "1.0"
    patterns: tuple[Pattern, ...] = ()
    speed: SpeedPlan | None = None
    """Only for ``kind: speed``."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question put to a model."""

    id: str
    """``<file stem>/<pattern id>`` for the prompt as written; ``…/held-1`` or ``…/wording-1`` appended otherwise."""
    pattern_id: str
    set_name: str
    """Stem of the pattern file: the NAME of a ``file:NAME.metric`` gate."""
    prompt: Prompt
    answers: tuple[str, ...]
    """Accepted answers, preferred first; empty where only agreement is measured."""
    match: str
    split: Split
    category: str
    source: SourceLine
    max_tokens: int | None = None
    required: bool = False


# ── training ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A prompt with its answer; only the answer's tokens and the end-of-turn token count in the loss."""

    prompt: Prompt
    answer: str
    """Empty for an ordinary prompt."""
    pattern_id: str = ""
    """``<file stem>/<pattern id>``; empty for an ordinary prompt."""

    @property
    def is_ordinary(self) -> bool:
        """Whether nothing is to be learned from it: it is replayed, so that the model stays as it was."""
        return not (self.answer or self.pattern_id)


LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an adapter is trained. Part of the adapter's identity: any change is another adapter."""

    kind: str = "lora"
    rank: int = 8
    alpha: float = 16.0
    """LoRA's update is multiplied by ``alpha / rank`` on every backend."""
    targets: tuple[str, ...] = LORA_TARGETS
    """Linear layers adapted in every block."""
    steps: int = 450
    """Optimizer steps at most."""
    batch_size: int = 8
    """Examples per step."""
    learning_rate: float = 1e-3
    """Of every A; at its highest."""
    loraplus_lr_ratio: float = 4.0
    """Every B learns this many times as fast (Hayou et al. 2024, LoRA+, arXiv 2402.12354); 1 is plain LoRA."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 10
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    replay: int = 2
    """Ordinary prompts per step, beside the batch, on whose answers the model is held to what it said untrained."""
    replay_weight: float = 1.0
    """Of their divergence from the bare model (mean KL, nats per token) beside the answers' loss."""
    stop_at_recall: bool = True
    """End early once teacher forcing shows enough examples recalled."""
    min_recall: float = 0.98
    """Share of the examples that is enough, 0..1, if every pattern's prompt as written is recalled: the last few wordings
    cost a fifth of the steps."""
    checkpoints: int = 0
    """Evenly spaced checkpoints to keep for a sweep; 0 keeps none."""
    seed: int = 0
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Settings of adapter kinds other than LoRA."""


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What a training run did."""

    backend: str
    device: str
    dtype: str
    steps: int
    """Optimizer steps done; fewer than the recipe's when recall ended it."""
    examples: int
    """Distinct training examples."""
    tokens: int
    """Tokens that went through the model, shared prefixes counted once per pack."""
    seconds: float
    loss_start: float
    """Mean answer-token loss (nats) of the first step."""
    loss_end: float
    losses: tuple[float, ...] = ()
    """One per step."""
    recall: float | None = None
    """Share of examples whose every answer token is the argmax under teacher forcing, 0..1; None if never checked."""
    recall_alone: Mapping[str, float] = field(default_factory=dict)
    """Of an adapter of two parts, the recall of each with the other one silent."""
    peak_memory_mb: float | None = None
    parameters: int = 0
    """Trained parameters."""
    versions: Mapping[str, str] = field(default_factory=dict)
    checkpoints: tuple[str, ...] = ()
    """Folders relative to the adapter's, in order of training."""
    examples_seen: int = 0
    """Examples that went through the model: steps times batch size."""
    machine: str = ""
    """Where it was trained, which need not be where it is asked; empty where nobody wrote it down."""

    @property
    def examples_per_s(self) -> float:
        """Examples trained on per second; 0 where nothing was."""
        return self.examples_seen / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_s(self) -> float:
        """Tokens through the model per second; 0 where none went."""
        return self.tokens / self.seconds if self.seconds else 0.0


# ── answering ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How completions are drawn. Greedy when *temperature* is 0."""

    max_tokens: int = 32
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    sample: int = 0
    """Index of a repeat; another index is another draw, never the same cached one."""
    ignore_eos: bool = False
    """Always produce *max_tokens* tokens (timed runs)."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered to one prompt."""

    text: str
    """Decoded new tokens without the final stop token; template tokens inside stay visible."""
    prompt_tokens: int
    completion_tokens: int
    """New tokens, the stop token included."""
    stop_reason: StopReason
    seconds: float
    """This prompt's share of the wall time of its batch."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Where a backend runs."""

    backend: str
    device: str
    """``cpu``, ``cuda:0 NVIDIA H100``, ``metal Apple M3`` …"""
    dtype: str
    versions: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    """Anything that explains the figures: threads, BLAS, fallback."""


# ── judging ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Score:
    """Whether a completion is right. A crash in a matcher is ``not_scored``: never a miss, never a pass."""

    outcome: ScoreOutcome
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the completion is right; False as well where it could not be judged."""
        return self.outcome == "passed"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One side's answer to one case, scored."""

    case: Case
    side: Side
    completion: Completion
    score: Score
    test: str = "accuracy"
    """Which suite test asked: accuracy, generalization, consistency, retention."""
    sample: int = 0
    """Index of a sampled repeat; 0 with greedy decoding."""
    log_prob: float | None = None
    """Mean log-probability (nats per token) of the preferred answer and its end token, where the backend gives it."""
    min_prob: float | None = None
    """Smallest probability among those tokens, 0..1."""
    diverges_at: int | None = None
    """Tokens of the preferred answer that greedy decoding would give before it says something else; None if it says it
    all, or where the backend cannot tell."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a run's figures come from."""

    model: str
    model_fingerprint: str
    backend: str
    device: str
    dtype: str
    adapter: str
    """Name of the adapter; empty when the bare model is the candidate."""
    commit: str
    """Short hash, ``-dirty`` appended where the tree had changes; empty outside git."""
    machine: str
    command: str
    started: str
    """ISO 8601, UTC."""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall seconds of a session's stages; 0 where a stage was served from a store."""

    train_s: float = 0.0
    baseline_s: float = 0.0
    candidate_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeedRounds:
    """Timed rounds of one side in one speed test, as measured: whatever is said about speed is computed from these."""

    test: str
    """``decode_speed``, ``batch_throughput``, ``first_token``, ``time_to_answer`` or ``load_time``."""
    side: Side
    seconds: tuple[float, ...]
    """One per round, in order of measuring; the warm-up is not among them."""
    tokens: tuple[int, ...] = ()
    """New tokens of each round, all prompts of the batch together."""
    baseline_s: tuple[float, ...] = ()
    """The baseline's round beside each, on the same prompts; empty for the baseline itself."""
    batch: int = 1
    """Prompts answered at once."""
    peak_memory_mb: float | None = None
    """Most memory the device (a CPU: the process) held meanwhile, all that was loaded included."""
    conditions: str = ""
    """Cores, threads and clock, the same from the first round to the last."""


@dataclass(frozen=True, slots=True)
class SpeedSummary:
    """Timed rounds of one side in figures: what reports print."""

    test: str
    side: Side
    batch: int
    rounds: int
    p50_s: float
    p90_s: float
    tok_s: Estimate | None = None
    """Median over rounds of new tokens a second; None where a round makes no text (loading)."""
    tok_s_iqr: tuple[float, float] | None = None
    tokens: float = 0.0
    """Mean new tokens of a round."""
    metric: str = ""
    """Name under which gates judge *ratio*; empty where none does."""
    ratio: Estimate | None = None
    """Over the baseline, in pairs: of speeds for tok/s, of times otherwise."""
    ratios: tuple[float, ...] = ()
    """One per pair, in order of measuring."""
    peak_memory_mb: float | None = None
    conditions: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value with its sample size and 95 % interval."""

    value: float
    n: int
    interval: tuple[float, float] | None = None
    passed: int | None = None
    """Count behind a rate; None for means, ratios and times."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric on both sides of a comparison."""

    name: str
    """As gates write it: ``accuracy``, ``paraphrase_consistency``, ``decode_speed`` …"""
    unit: str
    """``rate`` (0..1), ``tokens``, ``seconds``, ``tok/s``, ``nats``, ``ppl`` or ``MB``."""
    baseline: Estimate | None
    candidate: Estimate | None
    difference: Estimate | None = None
    """Candidate minus baseline in the metric's unit (rates: 0.1 is 10 pp), over paired rows only."""
    ratio: Estimate | None = None
    """Candidate over baseline where measured in pairs; 1.0 is no change."""
    fixed: int | None = None
    broken: int | None = None
    """Discordant pairs of a rate: the input of McNemar's test."""
    higher_is_better: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One case on both sides."""

    case_id: str
    state: State
    category: str
    split: Split
    source: SourceLine
    prompt: str
    expected: str
    baseline: str
    """The baseline's answer."""
    candidate: str
    reason: str = ""
    """Why the candidate's answer is not right; empty where it is."""
    required: bool = False


@dataclass(frozen=True, slots=True)
class GuardResult:
    """One sanity guard over the seen prompts of a pattern file."""

    guard: str
    """As node ids write it: ``stops-by-itself``."""
    set_name: str
    """Stem of the pattern file."""
    outcome: GuardOutcome
    reason: str = ""
    """Why it does not hold, or why the backend cannot tell; empty where it holds."""


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """What one checkpoint of a training has learned and forgotten."""

    checkpoint: str
    """Folder relative to the adapter's; ``.`` for the finished adapter."""
    step: int
    """Optimizer steps done."""
    recall: Estimate | None
    """Accuracy on seen prompts; None, as below, where it was not asked."""
    held_out: Estimate | None
    retention: Estimate | None

    @property
    def mean(self) -> float:
        """Mean of the rates that were measured, 0..1; 0 if none was."""
        rates = [rate.value for rate in (self.recall, self.held_out, self.retention) if rate is not None]
        return sum(rates) / len(rates) if rates else 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """Every case result of a session with its provenance: one JSON file."""

    name: str
    """``NNNN-<date>-<commit>``, the file's stem; empty before it is saved."""
    provenance: Provenance
    results: tuple[CaseResult, ...] = ()
    training: TrainingRecord | None = None
    timing: Timing = Timing()
    measures: tuple[Measure, ...] = ()
    """Measured outside cases: perplexity, KL."""
    sweep: tuple[SweepPoint, ...] = ()
    """Checkpoints in order of training; empty without ``--engram-sweep``."""
    guards: tuple[GuardResult, ...] = ()
    """Sanity guards in the order they were run; a broken one makes every figure doubtful."""
    speed: tuple[SpeedRounds, ...] = ()
    """Timed rounds of the speed tests."""
    missing: tuple[str, ...] = ()
    """Ids of selected cases that got no result on some side (a crash): never a pass."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides aligned case by case."""

    measures: Mapping[str, Measure]
    """By metric name; ``accuracy`` is there whenever an accuracy case ran on both sides."""
    slices: Mapping[str, Mapping[str, Measure]]
    """``category:NAME`` and ``file:NAME`` → the same metrics on that slice."""
    ledger: tuple[LedgerEntry, ...]
    """Seen, held-out and control cases, in order of the files; never sampled repeats."""
    unscored: tuple[str, ...] = ()
    """Ids of cases a matcher crashed on or a side has no row for."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """Cases only the newer (only the older) of two runs has; not counted anywhere else."""
    speed: tuple[SpeedSummary, ...] = ()
    """Timed sides in the order they were measured; their metrics are in *measures*."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A gate's judgement of a comparison."""

    gate: str
    """The expression as written."""
    outcome: VerdictOutcome
    measured: str
    """Ready for print: ``+95.4 pp (125 of 131, was 0 of 131)``; empty if not measured."""
    wanted: str
    """``at least +10 pp``."""
    reason: str = ""
    p_value: float | None = None
