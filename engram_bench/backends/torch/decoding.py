"""Answers with torch: packed or padded prefill passes, then batched decoding where finished rows leave the batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram_bench.backends.common.decoding import BatchDecoder, DecodingPlan, share_time
from engram_bench.backends.common.packing import TokenBatch, group, pack, pad
from engram_bench.backends.common.rows import PromptRow
from engram_bench.backends.common.sampling import draw
from engram_bench.backends.torch.heap import give_back
from engram_bench.backends.torch.kv_cache import DecodingKVCache, PrefillKVCache
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.memory import TorchMemory, batch_writes
from engram_bench.backends.torch.network import KVCache, Network, Writes
from engram_bench.memory.query import Query
from engram_bench.records import GenerationSettings

DRAFTS_TRIED, MIN_AGREEMENT = 64, 0.25
"""Draft tokens after which drafts are judged, and the smallest share of correct ones; below it, later drafts are ignored.

The drafts of a bare model are mostly wrong.
"""

GIVES_BACK_AFTER = 2000
"""Number of decoded tokens after which free memory is returned to the system, which takes 20 to 40 ms."""


class TorchDecoder(BatchDecoder):
    """Decoder of token rows with one network, and an adapter or a memory."""

    def __init__(
        self,
        network: Network,
        lora: Lora | None,
        settings: GenerationSettings,
        *,
        memory: TorchMemory | None = None,
        stop_ids: frozenset[int],
        pad_id: int,
        plan: DecodingPlan,
    ) -> None:
        super().__init__(settings, plan, stop_ids=stop_ids, pad_id=pad_id)
        self._network = network
        self._lora = lora
        self._memory = memory
        self._prefix: PrefillKVCache | None = None
        self._cache = DecodingKVCache()
        self._drafted = self._agreed = 0  # draft tokens checked, and correct ones among them
        self._decoded = 0  # tokens since free memory was returned

    # ── prefill ─────────────────────────────────────────────────────────────────────────────────

    def _prefill_order(self, rows: Sequence[PromptRow]) -> list[list[PromptRow]]:
        """Groups of rows that share a prefill pass; long rows come last, so that short rows get small buffers."""
        buckets: dict[int, list[PromptRow]] = {}
        for row in rows:
            buckets.setdefault(self._room(row).bit_length(), []).append(row)
        groups = []
        for _, bucket in sorted(buckets.items()):
            inputs = [[*row.prompt, *row.draft[:-1]] for row in bucket]
            found = group(inputs, max_tokens=self._plan.prefill_tokens, packed=self._plan.packing)
            groups += [[bucket[i] for i in members] for members in found]
        return groups

    def _prefill_shared(self, row: PromptRow, shared: int) -> None:
        self._prefix = PrefillKVCache()
        batch = pack([row.prompt[:shared]])
        writes = self._writes(batch, [Query(row.prompt[:shared], row.content)], self._prefix)
        self._network.logits(batch, batch.paths[0][-1:], lora=self._lora, cache=self._prefix, writes=writes)

    def _prefill(self, rows: Sequence[PromptRow]) -> None:
        """Run prompts and drafts through one pass; unfinished rows join the decoding batch."""
        started = time.perf_counter()
        if self._drafted >= DRAFTS_TRIED and self._agreed < MIN_AGREEMENT * self._drafted:
            for row in rows:
                row.draft = []
        past = self._prefix.length if self._prefix else 0
        inputs = [[*row.prompt, *row.draft[:-1]][past:] for row in rows]
        batch = pack(inputs, past=past) if self._plan.packing else pad(inputs, pad_id=self._pad_id, past=past)
        cache = PrefillKVCache(self._prefix)
        ends = [path[len(row.prompt) - past - 1 :] for path, row in zip(batch.paths, rows, strict=True)]
        writes = self._writes(batch, [Query([*row.prompt, *row.draft[:-1]], row.content, past) for row in rows], cache)
        logits = self._network.logits(batch, np.concatenate(ends), lora=self._lora, cache=cache, writes=writes)
        best = logits.argmax(-1).cpu().numpy()  # (N,)
        offset = 0
        for row, end in zip(rows, ends, strict=True):
            if row.random is not None:
                self._append(row, self._draw(logits[offset], row))
            else:
                self._accept(row, best[offset : offset + len(end)])
            offset += len(end)
        kept = [(row, path) for row, path in zip(rows, batch.paths, strict=True) if not self._is_done(row)]
        if kept:
            room = max(self._room(row) for row, _ in kept)
            self._cache.reserve(cache, len(self._active) + len(kept), room)
            keys = [_key_indices(path[: row.length - past], batch, past) for row, path in kept]
            self._cache.fill(len(self._active), cache, keys)
            self._active += [row for row, _ in kept]
        share_time(rows, time.perf_counter() - started)

    def _accept(self, row: PromptRow, best: NDArray[np.int64]) -> None:
        """Append draft tokens as long as the model agrees, then the model's own token."""
        self._drafted += len(row.draft)
        for index, token in enumerate(best.tolist()):
            self._append(row, token)
            agrees = index < len(row.draft) and token == row.draft[index]
            self._agreed += agrees
            if self._is_done(row) or not agrees:
                return

    # ── decoding ────────────────────────────────────────────────────────────────────────────────

    def _decode_step(self) -> None:
        """Decode one more token for every row of the batch."""
        started = time.perf_counter()
        active = list(self._active)
        going_on = [row for row in active if not self._is_done(row)]
        lengths = np.array([row.length for row in active], dtype=np.int64)  # (R,)
        ids = np.array([[row.new[-1]] for row in active], dtype=np.int64)  # (R, 1)
        mask = (np.arange(lengths.max() + 1) <= lengths[:, None])[:, None]  # (R, 1, longest)
        self._cache.begin_step(torch.from_numpy(lengths))
        indices = np.arange(len(active))
        batch = TokenBatch(ids, lengths[:, None], mask, tuple(indices[:, None]))
        queries = [Query([*row.prompt, *row.new], row.content, row.length) for row in active]
        writes = self._writes(batch, queries, self._cache)
        logits = self._network.logits(batch, indices, lora=self._lora, cache=self._cache, writes=writes)  # (R, V)
        best = logits.argmax(-1).tolist()
        for index, row in enumerate(active):
            if not self._is_done(row):
                self._append(row, best[index] if row.random is None else self._draw(logits[index], row))
        share_time(going_on, time.perf_counter() - started)
        self._evict()
        self._decoded += len(active)
        if self._decoded >= GIVES_BACK_AFTER:
            self._decoded = 0
            give_back()

    def _writes(self, batch: TokenBatch, queries: Sequence[Query], cache: KVCache) -> Writes | None:
        return batch_writes(self._memory, batch, queries, cache) if self._memory is not None else None

    def _evict(self) -> None:
        """Remove finished rows; the last rows of the batch fill the holes."""
        going_on = [index for index, row in enumerate(self._active) if not self._is_done(row)]
        if going_on and not self._plan.eviction:
            return
        holes = [index for index in range(len(going_on)) if self._is_done(self._active[index])]
        movers = going_on[len(going_on) - len(holes) :]
        if holes:
            self._cache.move(movers, holes)
        for hole, mover in zip(holes, movers, strict=True):
            self._active[hole] = self._active[mover]
        del self._active[len(going_on) :]

    def _draw(self, logits: Tensor, row: PromptRow) -> int:
        """A token drawn from *logits* (V,) with the random numbers of the row."""
        assert row.random is not None
        return draw(logits.float().cpu().numpy(), self._settings, row.random)


def sequence_log_probs(
    network: Network,
    lora: Lora | None,
    sequences: Sequence[Sequence[int]],
    plan: DecodingPlan,
    pad_id: int,
    *,
    memory: TorchMemory | None = None,
    read: Callable[[Sequence[int]], Query] | None = None,
) -> list[NDArray[np.float32]]:
    """Next-token log-probabilities (nats) of each sequence, each (T, V).

    Args:
        network: Base weights, or merged ones.
        lora: Attached adapter, if any.
        sequences: Token ids, each sequence not empty.
        plan: Whether passes are packed, and their sizes.
        pad_id: Token id that fills padded rows.
        memory: Attached memory, if any.
        read: Function that finds the question inside a sequence, for the memory.
    """
    found: dict[int, NDArray[np.float32]] = {}
    for members in group(sequences, max_tokens=plan.prefill_tokens, packed=plan.packing):
        inputs = [sequences[i] for i in members]
        batch = pack(inputs) if plan.packing else pad(inputs, pad_id=pad_id)
        writes = batch_writes(memory, batch, [read(sequence) for sequence in inputs]) if memory and read else None
        logits = network.logits(batch, np.arange(batch.num_tokens), lora=lora, writes=writes)  # (B·T, V)
        log_probs = logits.log_softmax(-1).cpu().numpy()
        found.update({index: log_probs[path] for index, path in zip(members, batch.paths, strict=True)})
    return [found[index] for index in range(len(sequences))]


def last_token_states(
    network: Network, sequences: Sequence[Sequence[int]], block: int, plan: DecodingPlan, pad_id: int
) -> NDArray[np.float32]:
    """Hidden states (N, H) that enter *block* at the last token of each sequence."""
    found: dict[int, NDArray[np.float32]] = {}
    for members in group(sequences, max_tokens=plan.prefill_tokens, packed=plan.packing):
        inputs = [sequences[i] for i in members]
        batch = pack(inputs) if plan.packing else pad(inputs, pad_id=pad_id)
        last = torch.tensor([int(path[-1]) for path in batch.paths])
        seen: list[NDArray[np.float32]] = []

        def watch(index: int, hidden: Tensor, rows: Tensor = last, kept: list[NDArray[np.float32]] = seen) -> Tensor:
            if index == block:
                kept.append(hidden[rows.to(hidden.device)].float().cpu().numpy())
            return hidden

        network.logits(batch, batch.paths[0][-1:], lora=None, writes=watch)
        found.update(zip(members, seen[0], strict=True))
    return np.stack([found[index] for index in range(len(sequences))])


def _key_indices(path: NDArray[np.int64], batch: TokenBatch, past: int) -> NDArray[np.int64]:
    """Indices of a row's keys in the flattened (B · (P + T)) keys of a pass, those of the prefix included."""
    num_columns = batch.ids.shape[1]
    row = int(path[0]) // num_columns if len(path) else 0
    start = row * (past + num_columns)
    return np.concatenate([np.arange(start, start + past), start + past + path - row * num_columns])
