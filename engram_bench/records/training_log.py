"""What a training did: a log that grows while it runs, and the record that is kept of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from engram_bench.records.answers import DeviceInfo
from engram_bench.records.training import TrainingRecord


@dataclass(slots=True)
class TrainingLog:
    """What a training has done so far, whatever it trains and whatever library computes."""

    losses: list[float] = field(default_factory=list)
    """Mean loss per answer token (nats) of what each step trained."""
    tokens: int = 0
    """Tokens that went through the model; answer tokens alone where a memory was trained."""
    examples: int = 0
    """Distinct training examples."""
    examples_seen: int = 0
    """Examples that went through the model, each as often as it did."""
    seconds: float = 0.0
    """Wall time."""
    recall: float | None = None
    """Share of the examples that were recalled at the last check of all, 0..1; None if never checked."""
    recall_alone: dict[str, float] = field(default_factory=dict)
    """Recall of each part of an adapter of two parts, with the other one silent."""
    parameters: int = 0
    """Trained parameters."""
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
