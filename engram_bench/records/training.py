"""What a trainer is given, and what it reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from engram_bench.records.patterns import Prompt

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


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
