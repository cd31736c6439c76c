"""Answers with mlx: packed or padded prefill passes, then batched decoding where finished rows leave now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from engram_bench.backends.common.decoding import BatchDecoder, DecodingPlan, share_time
from engram_bench.backends.common.rows import PromptRow
from engram_bench.backends.common.sampling import draw
from engram_bench.backends.mlx.kv_cache import DecodingRows, PaddedKVCache
from engram_bench.backends.mlx.memory import MlxMemory, batch_writes
from engram_bench.backends.mlx.network import MlxNetwork, Writes
from engram_bench.backends.mlx.passes import group, hidden_states, plan_pass
from engram_bench.memory.query import Query
from engram_bench.records import GenerationSettings


class MlxDecoder(BatchDecoder):
    """Decoder of token rows with one network, which holds the adapter, and a memory if any."""

    def __init__(
        self,
        network: MlxNetwork,
        settings: GenerationSettings,
        *,
        stop_ids: frozenset[int],
        pad_id: int,
        plan: DecodingPlan,
        memory: MlxMemory | None = None,
    ) -> None:
        super().__init__(settings, plan, stop_ids=stop_ids, pad_id=pad_id)
        self._network = network
        self._memory = memory
        self._prefix: list[PaddedKVCache] | None = None
        self._rows = DecodingRows(network.num_layers)
        self._packed = plan.packing and network.packs

    # ── prefill ─────────────────────────────────────────────────────────────────────────────────

    def _prefill_order(self, rows: Sequence[PromptRow]) -> list[list[PromptRow]]:
        """Groups of rows that share a prefill pass; short rows come first, so that they get small buffers."""
        lengths = [len(row.prompt) + len(row.draft[:-1]) for row in rows]
        groups = group(lengths, max_tokens=self._plan.prefill_tokens, packed=self._packed)
        return [[rows[i] for i in members] for members in groups]

    def _prefill_shared(self, row: PromptRow, shared: int) -> None:
        self._prefix = self._network.pass_caches()
        writes = self._writes(shared, [np.arange(shared)], [Query(row.prompt[:shared], row.content)])
        self._network.hidden(mx.array([row.prompt[:shared]]), self._prefix, writes)
        mx.eval([(cache.keys, cache.values) for cache in self._prefix])

    def _prefill(self, rows: Sequence[PromptRow]) -> None:
        """Run prompts and drafts through one pass; unfinished rows join the decoding batch."""
        started = time.perf_counter()
        past = self._prefix[0].length if self._prefix else 0
        inputs = [[*row.prompt, *row.draft[:-1]][past:] for row in rows]
        plan = plan_pass(inputs, packed=self._packed, pad_id=self._pad_id, past=past)
        queries = [Query([*row.prompt, *row.draft[:-1]], row.content, past) for row in rows]
        hidden, caches = hidden_states(
            self._network, plan, self._prefix, self._writes(plan.ids.size, plan.paths, queries)
        )
        ends = [path[len(row.prompt) - past - 1 :] for path, row in zip(plan.paths, rows, strict=True)]
        picked = hidden[mx.array(np.concatenate(ends))]  # (N, hidden)
        tokens = self._choose(
            self._network.logits(picked), [row for row, end in zip(rows, ends, strict=True) for _ in end]
        )
        offset = 0
        for row, end in zip(rows, ends, strict=True):
            self._accept(row, tokens[offset : offset + len(end)])
            offset += len(end)
        kept = [index for index, row in enumerate(rows) if not self._is_done(row)]
        if kept:
            self._rows.add(caches, kept, [rows[index].length for index in kept])
            self._active += [rows[index] for index in kept]
        share_time(rows, time.perf_counter() - started)

    def _accept(self, row: PromptRow, tokens: Sequence[int]) -> None:
        """Append draft tokens as long as the model agrees, then the model's own token."""
        for index, token in enumerate(tokens):
            self._append(row, token)
            if self._is_done(row) or index >= len(row.draft) or token != row.draft[index]:
                return

    # ── decoding ────────────────────────────────────────────────────────────────────────────────

    def _decode_step(self) -> None:
        """Decode one more token for every row of the batch."""
        started = time.perf_counter()
        self._rows.begin_step()
        queries = [Query([*row.prompt, *row.new], row.content, row.length) for row in self._active]
        writes = self._writes(len(queries), list(np.arange(len(queries))[:, None]), queries)
        ids = mx.array([[row.new[-1]] for row in self._active])
        hidden = self._network.hidden(ids, self._rows.layers, writes)
        tokens = self._choose(self._network.logits(hidden[:, 0]), self._active)
        going_on = [row for row in self._active if not self._is_done(row)]
        for row, token in zip(self._active, tokens, strict=True):
            if not self._is_done(row):
                self._append(row, token)
        share_time(going_on, time.perf_counter() - started)
        self._evict()

    def _writes(
        self, num_positions: int, paths: Sequence[NDArray[np.int64]], queries: Sequence[Query]
    ) -> Writes | None:
        return batch_writes(self._memory, num_positions, paths, queries) if self._memory is not None else None

    def _evict(self) -> None:
        """Remove finished rows, unless they are few: the other rows must be copied."""
        kept = [index for index, row in enumerate(self._active) if not self._is_done(row)]
        is_few = (len(self._active) - len(kept)) * 8 < len(self._active)
        if kept and (is_few or not self._plan.eviction):
            return
        if kept:
            self._rows.keep(kept)
        else:
            self._rows = DecodingRows(self._network.num_layers)
        self._active = [self._active[index] for index in kept]

    def _choose(self, logits: mx.array, rows: Sequence[PromptRow]) -> list[int]:
        """The next token after each of N positions.

        Args:
            logits: Logits at the positions, (N, V).
            rows: Row of each position, whose random numbers are used.
        """
        if self._settings.temperature == 0:
            best: list[int] = mx.argmax(logits, axis=-1).tolist()
            return best
        values: NDArray[np.float32] = np.array(logits)
        return [
            draw(one, self._settings, row.random) if row.random is not None and not self._is_done(row) else 0
            for one, row in zip(values, rows, strict=True)
        ]


def last_token_states(
    network: MlxNetwork, sequences: Sequence[Sequence[int]], block: int, plan: DecodingPlan, pad_id: int
) -> NDArray[np.float32]:
    """Hidden states (N, hidden) that enter *block* at the last token of each sequence."""
    found: dict[int, NDArray[np.float32]] = {}
    packed = plan.packing and network.packs
    for members in group([len(one) for one in sequences], max_tokens=plan.prefill_tokens, packed=packed):
        batch = plan_pass([sequences[i] for i in members], packed=packed, pad_id=pad_id)
        last = mx.array([int(path[-1]) for path in batch.paths])
        seen: list[mx.array] = []

        def watch(index: int, hidden: mx.array, rows: mx.array = last, kept: list[mx.array] = seen) -> mx.array:
            if index == block:
                kept.append(hidden.reshape(-1, hidden.shape[-1])[rows])
            return hidden

        hidden_states(network, batch, writes=watch)
        found.update(zip(members, np.array(seen[0].astype(mx.float32)), strict=True))
    return np.stack([found[index] for index in range(len(sequences))])


def sequence_log_probs(
    network: MlxNetwork,
    sequences: Sequence[Sequence[int]],
    plan: DecodingPlan,
    pad_id: int,
    *,
    memory: MlxMemory | None = None,
    read: Callable[[Sequence[int]], Query],
) -> list[NDArray[np.float32]]:
    """Next-token log-probabilities (nats) of each sequence, each (T, V).

    Args:
        network: Network with its adapter.
        sequences: Token ids, each sequence not empty.
        plan: Whether passes are packed, and their sizes.
        pad_id: Token id that fills padded rows.
        memory: Attached memory, if any.
        read: Function that finds the question inside a sequence, for the memory.
    """
    found: dict[int, NDArray[np.float32]] = {}
    packed = plan.packing and network.packs
    for members in group([len(one) for one in sequences], max_tokens=plan.prefill_tokens, packed=packed):
        batch = plan_pass([sequences[i] for i in members], packed=packed, pad_id=pad_id)
        queries = [read(sequences[i]) for i in members] if memory is not None else []
        writes = batch_writes(memory, batch.ids.size, batch.paths, queries) if memory is not None else None
        flat, _ = hidden_states(network, batch, writes=writes)
        for index, path in zip(members, batch.paths, strict=True):
            logits = network.logits(flat[mx.array(path)])  # (T, V)
            found[index] = np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    return [found[index] for index in range(len(sequences))]
