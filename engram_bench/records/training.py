"""Input and output of a trainer: training examples, the recipe, and the record of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from engram_bench.records.patterns import Prompt

USUAL_EXAMPLES = 600
"""Training examples for which the usual number of steps is meant: about 150 patterns with their wordings."""
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Names of the seven linear layers in a Llama block."""


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A prompt with its answer. Only the tokens of the answer and the end-of-turn token count in the loss."""

    prompt: Prompt
    answer: str
    """Target text; empty for an ordinary prompt."""
    pattern_id: str = ""
    """``<file stem>/<pattern id>``; empty for an ordinary prompt."""

    @property
    def is_ordinary(self) -> bool:
        """Whether the example is an ordinary prompt, replayed so that unrelated answers stay the same."""
        return not (self.answer or self.pattern_id)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of a training. They are part of the adapter's identity: any change makes another adapter."""

    kind: str = "lora"
    rank: int = 8
    alpha: float = 16.0
    """Strength of LoRA's update, which is multiplied by :attr:`scale` on every backend."""
    use_rslora: bool = False
    """Whether the scale is ``alpha / √rank`` (Kalajdzievski 2023, rank-stabilised LoRA, arXiv 2312.03732)."""
    lora_dropout: float = 0.0
    """Share of the adapter's inputs that a training step leaves out."""
    targets: tuple[str, ...] = LORA_TARGETS
    """Linear layers that are adapted in a block, by name; or ``all-linear``; or one regular expression between slashes that
    the whole path of a layer matches."""
    layers: str = "all"
    """Blocks that are adapted, counted from 0: ``all``, ``first N``, ``last N`` or ``FROM-TO``, both included."""
    steps: int = 450
    """Largest number of optimizer steps."""
    batch_size: int = 8
    """Training examples per step."""
    learning_rate: float = 1e-3
    """Learning rate of every matrix A, at the highest point of the schedule."""
    loraplus_lr_ratio: float = 4.0
    """Learning rate of every matrix B over that of A (Hayou et al. 2024, LoRA+, arXiv 2402.12354); 1 is plain LoRA."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: int = 10
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    replay: int = 2
    """Ordinary prompts per step beside the batch; a second loss holds their answers to those of the bare model."""
    replay_weight: float = 1.0
    """Weight of that second loss (mean KL divergence from the bare model, nats per token) beside the answers' loss."""
    stop_at_recall: bool = True
    """Whether training ends early once teacher forcing shows that enough examples are recalled."""
    min_recall: float = 0.98
    """Share of the examples that is enough, 0..1, if every pattern's prompt as written is recalled.

    The last few wordings would cost a fifth of the steps.
    """
    checkpoints: int = 0
    """Number of evenly spaced checkpoints to keep for a sweep; 0 keeps none."""
    augmentation: bool = True
    """Whether a LoRA also learns phrasings made of each prompt."""
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of the base weights in training; ``auto`` takes the backend's own."""
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Settings of adapter kinds other than LoRA."""

    def with_steps_for(self, num_examples: int, steps_per_example: float) -> Recipe:
        """The recipe with more steps where there are more than ``USUAL_EXAMPLES`` examples.

        Each further example adds *steps_per_example* steps of ``Recipe().batch_size`` examples, or as many passes over it in
        batches of another size.
        """
        further = max(0, num_examples - USUAL_EXAMPLES)
        added = math.ceil(further * steps_per_example * Recipe().batch_size / self.batch_size)
        return replace(self, steps=self.steps + added)

    @property
    def scale(self) -> float:
        """Factor of LoRA's update BA: ``alpha / rank``, or ``alpha / √rank`` with rank-stabilised LoRA."""
        return self.alpha / (self.rank**0.5 if self.use_rslora else self.rank)


LATER_FIELDS = ("use_rslora", "layers", "augmentation", "lora_dropout", "dtype")
"""Fields that recipes did not always have: at their defaults they are no part of an adapter's identity."""


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """Figures of a finished training."""

    backend: str
    device: str
    dtype: str
    steps: int
    """Number of optimizer steps; below the recipe's where recall ended the training early."""
    examples: int
    """Number of distinct training examples."""
    tokens: int
    """Number of tokens that went through the model; a shared prefix counts once per pack."""
    seconds: float
    loss_start: float
    """Mean loss of the answer tokens (nats) in the first step."""
    loss_end: float
    """Mean loss of the answer tokens (nats) in the last step."""
    losses: tuple[float, ...] = ()
    """Loss of each step."""
    recall: float | None = None
    """Share of examples whose every answer token is the most likely one under teacher forcing, 0..1; None if never checked."""
    recall_alone: Mapping[str, float] = field(default_factory=dict)
    """Recall of each part of a two-part adapter while the other part is switched off."""
    peak_memory_mb: float | None = None
    parameters: int = 0
    """Number of trained parameters."""
    versions: Mapping[str, str] = field(default_factory=dict)
    checkpoints: tuple[str, ...] = ()
    """Folders of the checkpoints relative to the adapter's folder, in order of training."""
    examples_seen: int = 0
    """Number of examples that went through the model: steps times batch size."""
    machine: str = ""
    """Machine of the training, which may differ from the machine of the answers; empty where it was not recorded."""

    @property
    def examples_per_s(self) -> float:
        """Training examples per second; 0 for a training without examples."""
        return self.examples_seen / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_s(self) -> float:
        """Tokens through the model per second; 0 for a training without tokens."""
        return self.tokens / self.seconds if self.seconds else 0.0
