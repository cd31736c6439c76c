"""Batches of one training pass, with answers to learn and answers to keep; and their losses."""

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
    """Input of one training pass, with its labels."""

    plan: Pass
    """Token ids of the pass."""
    rows: mx.array
    """Indices of hidden states, (N + M,): N that predict a token to learn, then M that belong to ordinary prompts."""
    labels: mx.array
    """Token ids to learn, (N,)."""


def plan_batch(learned: Sequence[Encoded], held: Sequence[Encoded] = (), *, packed: bool, pad_id: int) -> Batch:
    """One pass over examples to learn and over ordinary prompts.

    Args:
        learned: Examples whose answers are to be learned.
        held: Ordinary prompts with the bare model's answers, which are to be kept.
        packed: Whether all sequences share one row.
        pad_id: Token id that fills padded rows.
    """
    every = [*learned, *held]
    shared = shared_prefix([example.ids[: example.answer_start] for example in every])
    plan = plan_pass([example.ids[:-1] for example in every], packed=packed, pad_id=pad_id, shared=shared)
    pairs = zip(plan.paths, every, strict=True)
    rows = np.concatenate([path[example.answer_start - 1 - shared :] for path, example in pairs])
    labels = np.array([label for example in learned for label in example.labels], dtype=np.int64)
    return Batch(plan, mx.array(rows), mx.array(labels))


def states_of(network: MlxNetwork, batch: Batch) -> mx.array:
    """Last hidden states at the rows of the batch, (N + M, hidden)."""
    return hidden_states(network, batch.plan)[0][batch.rows]


def losses_of(network: MlxNetwork, batch: Batch) -> mx.array:
    """Losses (nats) of the tokens to learn, (N,), for a batch without ordinary prompts."""
    return _cross_entropy(network, network.logits(states_of(network, batch)), batch.labels)


def loss_of(
    network: MlxNetwork, batch: Batch, reference: mx.array | None, *, scale: float, anchor_scale: float
) -> tuple[mx.array, mx.array]:
    """Objective of the batch, and the losses (N,) in nats of the tokens to learn.

    The objective is *scale* · sum of the losses + *anchor_scale* · sum of the divergences KL(bare, tuned) in nats.

    Args:
        network: Network whose adapter is trained.
        batch: Examples and ordinary prompts.
        reference: Last hidden states of the bare model at the rows of ordinary prompts, (M, hidden); None without them.
        scale: Weight of each loss.
        anchor_scale: Weight of each divergence.
    """
    logits = network.logits(states_of(network, batch))  # (N + M, V)
    num_labels = batch.labels.size
    losses = _cross_entropy(network, logits[:num_labels], batch.labels) if num_labels else mx.zeros(0)
    loss = losses.sum() * scale
    if reference is not None:
        bare = nn.log_softmax(network.logits(reference))
        tuned = nn.log_softmax(logits[num_labels:])
        loss = loss + (mx.exp(bare) * (bare - tuned)).sum() * anchor_scale
    return loss, losses


def _cross_entropy(network: MlxNetwork, logits: mx.array, labels: mx.array) -> mx.array:
    return cross_entropy(logits, labels) if network.packs else nn.losses.cross_entropy(logits, labels)
