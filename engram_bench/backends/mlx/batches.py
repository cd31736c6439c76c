"""What goes through the model in one training pass: answers to be learned and answers to be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx import nn
from numpy.typing import NDArray

from engram_bench.backends.mlx.kernels import cross_entropy
from engram_bench.backends.mlx.network import Network
from engram_bench.backends.mlx.passes import Pass, hidden_states, plan_pass, shared_prefix
from engram_bench.backends.training_plan import Encoded


@dataclass(frozen=True, slots=True)
class Batch:
    """Input of one training pass, and what the answers are."""

    plan: Pass
    rows: mx.array
    """(N + M,) places among the hidden states: N that predict a token to be learned, then M of ordinary prompts."""
    labels: mx.array
    """(N,) the tokens to be learned."""
    weight: float
    """Share of each in the loss."""
    owners: NDArray[np.int64]
    """(N,) index of the example each belongs to."""
    taught: mx.array | None = None
    """(M, hidden) the bare model's states at the last M places."""
    held_weight: float = 0.0
    """Share of each divergence in the loss."""


def plan_batch(
    learned: Sequence[Encoded], held: Sequence[Encoded] = (), *, packed: bool, pad_id: int, total: int = 1
) -> Batch:
    """The examples and ordinary prompts in one pass, each answer token weighing 1 / *total*; nothing is taught yet."""
    every = [*learned, *held]
    shared = shared_prefix([example.ids[: example.answer_start] for example in every])
    plan = plan_pass([example.ids[:-1] for example in every], packed=packed, pad_id=pad_id, shared=shared)
    places = zip(plan.paths, every, strict=True)
    rows = np.concatenate([path[example.answer_start - 1 - shared :] for path, example in places])
    labels = np.array([label for example in learned for label in example.labels], dtype=np.int64)
    owners = np.repeat(np.arange(len(learned)), [len(example.labels) for example in learned])
    return Batch(plan, mx.array(rows), mx.array(labels), 1 / total, owners)


def states_of(network: Network, batch: Batch) -> mx.array:
    """(N + M, hidden) last hidden states at the batch's places."""
    return hidden_states(network, batch.plan)[0][batch.rows]


def loss_of(network: Network, batch: Batch) -> tuple[mx.array, mx.array]:
    """The batch's part of what is minimised, and how much of it is the loss of tokens to be learned.

    The rest is the divergence from the bare model on the other places, KL(bare, tuned) in nats.
    """
    logits = network.logits(states_of(network, batch))  # (N + M, V)
    num_labels = batch.labels.size
    loss = mx.array(0.0)
    if num_labels:
        asked = logits[:num_labels]
        packs = network.packs
        summed = cross_entropy(asked, batch.labels) if packs else _plain_cross_entropy(asked, batch.labels)
        loss = summed * batch.weight
    divergence = mx.array(0.0)
    if batch.taught is not None:
        bare = nn.log_softmax(network.logits(batch.taught))
        tuned = nn.log_softmax(logits[num_labels:])
        divergence = (mx.exp(bare) * (bare - tuned)).sum() * batch.held_weight
    return loss + divergence, loss


def _plain_cross_entropy(logits: mx.array, labels: mx.array) -> mx.array:
    return nn.losses.cross_entropy(logits, labels, reduction="sum")
