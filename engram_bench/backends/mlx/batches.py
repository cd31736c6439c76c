"""What goes through the model in one training pass: answers to be learned and answers to be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx import nn

from engram_bench.backends.mlx.kernels import cross_entropy
from engram_bench.backends.mlx.network import MlxNetwork
from engram_bench.backends.mlx.passes import Pass, hidden_states, plan_pass, shared_prefix
from engram_bench.models.encoding import Encoded


@dataclass(frozen=True, slots=True)
class Batch:
    """Input of one training pass, and what the answers are."""

    plan: Pass
    rows: mx.array
    """(N + M,) places among the hidden states: N that predict a token to be learned, then M of ordinary prompts."""
    labels: mx.array
    """(N,) the tokens to be learned."""


def plan_batch(learned: Sequence[Encoded], held: Sequence[Encoded] = (), *, packed: bool, pad_id: int) -> Batch:
    """The examples and ordinary prompts in one pass."""
    every = [*learned, *held]
    shared = shared_prefix([example.ids[: example.answer_start] for example in every])
    plan = plan_pass([example.ids[:-1] for example in every], packed=packed, pad_id=pad_id, shared=shared)
    places = zip(plan.paths, every, strict=True)
    rows = np.concatenate([path[example.answer_start - 1 - shared :] for path, example in places])
    labels = np.array([label for example in learned for label in example.labels], dtype=np.int64)
    return Batch(plan, mx.array(rows), mx.array(labels))


def states_of(network: MlxNetwork, batch: Batch) -> mx.array:
    """(N + M, hidden) last hidden states at the batch's places."""
    return hidden_states(network, batch.plan)[0][batch.rows]


def losses_of(network: MlxNetwork, batch: Batch) -> mx.array:
    """(N,) losses (nats) of the tokens to be learned, of a batch without ordinary prompts."""
    return _cross_entropy(network, network.logits(states_of(network, batch)), batch.labels)


def loss_of(
    network: MlxNetwork, batch: Batch, taught: mx.array | None, *, scale: float, anchor_scale: float
) -> tuple[mx.array, mx.array]:
    """The batch's part of what is minimised, and the losses (N,) of the tokens to be learned.

    *scale* times those and, where *taught* holds the bare model's states (M, hidden) at the other places, *anchor_scale*
    times the divergences from it there, KL(bare, tuned) in nats.
    """
    logits = network.logits(states_of(network, batch))  # (N + M, V)
    num_labels = batch.labels.size
    losses = _cross_entropy(network, logits[:num_labels], batch.labels) if num_labels else mx.zeros(0)
    loss = losses.sum() * scale
    if taught is not None:
        bare = nn.log_softmax(network.logits(taught))
        tuned = nn.log_softmax(logits[num_labels:])
        loss = loss + (mx.exp(bare) * (bare - tuned)).sum() * anchor_scale
    return loss, losses


def _cross_entropy(network: MlxNetwork, logits: mx.array, labels: mx.array) -> mx.array:
    return cross_entropy(logits, labels) if network.packs else nn.losses.cross_entropy(logits, labels)
