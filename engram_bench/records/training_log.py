"""The log of a training while it runs, and the record made from it at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from engram_bench.records.answers import DeviceInfo
from engram_bench.records.training import TrainingRecord


@dataclass(slots=True)
class TrainingLog:
    """Figures of a training so far, for any kind of adapter and any backend."""

    losses: list[float] = field(default_factory=list)
    """Mean loss per answer token (nats) of each step."""
    tokens: int = 0
    """Number of tokens that went through the model; for a memory, of answer tokens alone."""
    examples: int = 0
    """Number of distinct training examples."""
    examples_seen: int = 0
    """Number of examples that went through the model, each counted as often as it did."""
    seconds: float = 0.0
    """Wall seconds so far."""
    recall: float | None = None
    """Share of the examples that the last full check found recalled, 0..1; None if never checked."""
    recall_alone: dict[str, float] = field(default_factory=dict)
    """Recall of each part of a two-part adapter while the other part is switched off."""
    parameters: int = 0
    """Number of trained parameters."""
    checkpoints: list[str] = field(default_factory=list)
    """Folders relative to the adapter's, in order of training."""
    finished: bool = False
    """Whether recall ended the training."""

    def record(self, device: DeviceInfo, *, peak_memory_mb: float | None) -> TrainingRecord:
        """The record of a training that has ended on this *device*."""
        return TrainingRecord(
            backend=device.backend,
            device=device.device,
            dtype=device.dtype,
            steps=len(self.losses),
            examples=self.examples,
            tokens=self.tokens,
            seconds=self.seconds,
            loss_start=self.losses[0] if self.losses else 0.0,
            loss_end=self.losses[-1] if self.losses else 0.0,
            losses=tuple(self.losses),
            recall=self.recall,
            recall_alone=dict(self.recall_alone),
            peak_memory_mb=peak_memory_mb,
            parameters=self.parameters,
            versions=device.versions,
            checkpoints=tuple(self.checkpoints),
            examples_seen=self.examples_seen,
        )
