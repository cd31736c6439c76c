"""Softmax attention over packed rows: each span of queries is compared only with keys that some query may see.

Most pairs of tokens in a packed row belong to different sequences. Sequences lie one after the other, so 64 neighbouring
queries see the shared prefix and about 64 keys more: a third of all pairs at 250 tokens, a quarter at 370.

Sizes: B rows, K key heads, G query heads per key head, T queries, S keys, D components. The keys of a span are gathered
where one row has several spans; a single span uses the keys as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engram_bench.backends.common.packing import TokenBatch
from engram_bench.backends.torch.operators import softmax_backward

SPAN = 64
"""Queries of a span; the fastest size of 32, 64 and 128 at 250 and at 370 tokens."""


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring queries, and the keys that they may see."""

    queries: slice
    keys: Tensor | None
    """Indices of the keys, ascending; None stands for all keys."""
    bias: Tensor
    """Numbers to add to the scores: 0 where a query may see a key, -inf elsewhere, (B, 1, 1, queries, keys)."""


def plan_spans(batch: TokenBatch, device: str) -> list[Span]:
    """Spans of a batch; a single one if the batch has several rows or few tokens."""
    num_rows, length = batch.ids.shape
    if num_rows > 1 or length <= SPAN:
        return [Span(slice(0, length), None, _bias(batch.mask, device))]
    spans = []
    for start in range(0, length, SPAN):
        queries = slice(start, min(start + SPAN, length))
        keys = np.flatnonzero(batch.mask[0, queries].any(0))
        bias = _bias(batch.mask[:, queries][:, :, keys], device)
        spans.append(Span(queries, torch.from_numpy(keys).to(device), bias))
    return spans


def attend(query: Tensor, key: Tensor, value: Tensor, spans: Sequence[Span]) -> tuple[Tensor, list[Tensor]]:
    """Mixed values (B, K, G, T, D) of scaled queries (B, K, G, T, D), and each span's attention (B, K, G·t, s).

    *key* and *value* are (B, K, S, D).
    """
    mixed, attentions = torch.empty_like(query), []
    for span in spans:
        keys, values = _of_span(key, span), _of_span(value, span)
        scores = query[:, :, :, span.queries].flatten(2, 3) @ keys.transpose(2, 3)  # (B, K, G·t, s)
        _split(scores, query).add_(span.bias)
        attention = torch.softmax(scores, -1)
        mixed[:, :, :, span.queries] = _split(attention @ values, query)
        attentions.append(attention)
    return mixed, attentions


def attend_backward(
    d_mixed: Tensor, query: Tensor, key: Tensor, value: Tensor, spans: Sequence[Span], attentions: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to query, key and value of :func:`attend`."""
    d_query, d_key, d_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
    for span, attention in zip(spans, attentions, strict=True):
        queries = query[:, :, :, span.queries].flatten(2, 3)  # (B, K, G·t, D)
        d_span = d_mixed[:, :, :, span.queries].flatten(2, 3)
        d_attention = d_span @ _of_span(value, span).transpose(2, 3)  # (B, K, G·t, s)
        d_scores = softmax_backward(d_attention, attention)
        d_query[:, :, :, span.queries] = _split(d_scores @ _of_span(key, span), query)
        _add_to_keys(d_key, span, d_scores.transpose(2, 3) @ queries)
        _add_to_keys(d_value, span, attention.transpose(2, 3) @ d_span)
    return d_query, d_key, d_value


def _bias(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], device: str) -> Tensor:
    hidden = torch.tensor(~mask, device=device)[:, None, None]  # (B, 1, 1, t, s)
    return torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -torch.inf)


def _split(joint: Tensor, query: Tensor) -> Tensor:
    """(B, K, G·t, n) as (B, K, G, t, n)."""
    return joint.view(*query.shape[:3], -1, joint.shape[-1])


def _of_span(keys: Tensor, span: Span) -> Tensor:
    return keys if span.keys is None else keys.index_select(2, span.keys)


def _add_to_keys(total: Tensor, span: Span, part: Tensor) -> None:
    if span.keys is None:
        total += part
    else:
        total.index_add_(2, span.keys, part)
