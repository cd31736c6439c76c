"""The record that is kept of a training."""

from __future__ import annotations

from engram_bench.records import DeviceInfo
from engram_bench.records.training_log import TrainingLog

DEVICE = DeviceInfo(backend="cpu", device="cpu", dtype="float32", versions={"torch": "2"})


def test_a_record_has_what_the_log_counted_and_where_it_was() -> None:
    log = TrainingLog(losses=[2.0, 1.0], tokens=30, examples=4, examples_seen=8, seconds=2.0, recall=0.75, parameters=7)
    log.checkpoints.append("checkpoints/step-000002")

    record = log.record(DEVICE, peak_memory_mb=12.5)

    assert (record.backend, record.dtype, record.versions) == ("cpu", "float32", {"torch": "2"})
    assert (record.steps, record.loss_start, record.loss_end, record.losses) == (2, 2.0, 1.0, (2.0, 1.0))
    assert (record.examples, record.examples_seen, record.tokens) == (4, 8, 30)
    assert (record.recall, record.parameters, record.peak_memory_mb) == (0.75, 7, 12.5)
    assert record.checkpoints == ("checkpoints/step-000002",)
    assert record.tokens_per_s == 15.0


def test_a_training_of_no_steps_has_no_loss() -> None:
    record = TrainingLog().record(DEVICE, peak_memory_mb=None)

    assert (record.steps, record.loss_start, record.loss_end, record.recall) == (0, 0.0, 0.0, None)
