"""Training a memory's rows with mlx: what the memory cannot change is computed once.

The hidden states below the first block that is written to never change, nor do the keys and values of the places before
the first one that is written at: a pass runs the answers' few places through the last blocks, which are the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
from mlx import nn
from numpy.typing import NDArray

from engram_bench.backends.mlx.memory import Memory, MemoryWrites, check_supported
from engram_bench.backends.mlx.network import MlxNetwork, Writes
from engram_bench.backends.mlx.passes import group, hidden_states, plan_pass, shared_prefix
from engram_bench.memory.config import MemoryConfig, config_of
from engram_bench.memory.files import StoredMemory, save_memory
from engram_bench.memory.plan import SCALE_EXAMPLES, facts_of, taught, untrained
from engram_bench.memory.table import Fact
from engram_bench.memory.training import Done, MemoryTrainer, Slots
from engram_bench.records import Recipe, TrainingExample
from engram_bench.system.progress import Progress

if TYPE_CHECKING:
    from engram_bench.models import Model

PREFILL_TOKENS = 1024
BETAS, EPSILON = (0.9, 0.999), 1e-8


def train_memory(
    network: MlxNetwork,
    model: Model,
    examples: Sequence[TrainingExample],
    recipe: Recipe,
    folder: Path,
    *,
    packed: bool,
    progress: Progress,
    cached: bool = True,
) -> tuple[StoredMemory, Done, int]:
    """A memory of the *examples*, left in *folder*, how it came to be, and the number of examples it was trained at.

    Args:
        network: The frozen model.
        model: Whose tokenizer and identity the memory depends on.
        examples: What it is to know.
        recipe: Of kind ``memory``.
        folder: Exists.
        packed: Read the examples in packed rows, where the network can.
        progress: Told of every step.
        cached: Compute once what the memory cannot change; False is the plain way with the same result.

    Raises:
        BackendError: The recipe or an example cannot be used, or the loss is not finite.
    """
    check_supported(config_of(recipe))
    facts = facts_of(model, examples, model.context_length)
    stored = untrained(model, facts, recipe, partial(measured_scales, network, facts))
    config, pad_id = stored.table.config, model.tokenizer.pad_id
    facts = taught(facts, config)
    firsts = [len(fact.prompt.ids) - 1 if config.answers_only and cached else 0 for fact in facts]
    block = min(config.layers) if cached else 0
    passes = UpperPasses(network, facts, firsts, block, pad_id=pad_id, packed=packed, progress=progress)
    if not passes.agree():  # a model whose blocks are not the same wherever they stand
        passes = UpperPasses(network, facts, [0] * len(facts), 0, pad_id=pad_id, packed=packed, progress=progress)
    learner = MlxMemoryLearner(passes, stored)
    done = MemoryTrainer(learner, stored.table, facts).run(
        recipe.steps, progress=progress, until_recall=recipe.stop_at_recall
    )
    trained = learner.stored()
    save_memory(folder, trained)
    return trained, done, len(facts)


def measured_scales(network: MlxNetwork, facts: Sequence[Fact], blocks: Sequence[int]) -> dict[int, float]:
    """Median size of the hidden state's values where answers are predicted, before each block."""
    seen: dict[int, list[NDArray[np.float32]]] = {block: [] for block in blocks}
    for fact in facts[:: max(1, len(facts) // SCALE_EXAMPLES)]:
        reading = fact.reading

        def watch(block: int, hidden: mx.array, first: int = reading.first) -> mx.array:
            if block in seen:
                seen[block].append(np.abs(np.array(hidden[0, first:].astype(mx.float32))).ravel())
            return hidden

        network.hidden(mx.array([list(reading.ids)]), network.pass_caches(), watch)
    return {block: float(np.median(np.concatenate(parts))) for block, parts in seen.items()}


class UpperPasses:
    """Passes of the examples' places from *firsts* on through the blocks from *block* on."""

    def __init__(
        self,
        network: MlxNetwork,
        facts: Sequence[Fact],
        firsts: Sequence[int],
        block: int,
        *,
        pad_id: int,
        packed: bool,
        progress: Progress,
    ) -> None:
        self._network = network
        self._block = block
        self.firsts = firsts
        self._predicts = [len(fact.prompt.ids) - 1 for fact in facts]
        self._sequences = sequences = [fact.reading.ids for fact in facts]
        self._shared = min(shared_prefix(sequences) if len(sequences) > 1 else 0, *firsts)
        self._hidden: dict[int, NDArray[Any]] = {}  # (places, H)
        self._past: dict[int, list[tuple[NDArray[Any], NDArray[Any]]]] = {}  # per block keys and values (K, R, D)
        self._prefix: list[tuple[mx.array, mx.array]] = []  # per block (1, K, P, D)
        groups = group([len(ids) for ids in sequences], max_tokens=PREFILL_TOKENS, packed=packed and network.packs)
        for done, members in enumerate(groups, start=1):
            plan = plan_pass([sequences[i] for i in members], packed=packed and network.packs, pad_id=pad_id)
            self._read(members, plan)
            progress("read", done, len(groups), "hidden states that stay the same")

    def agree(self) -> bool:
        """Whether the upper blocks by themselves make of the first example what the whole model does."""
        index, ids = 0, self._sequences[0]
        whole = self._network.hidden(mx.array([list(ids)]), self._network.pass_caches())[0, self._predicts[index] :]
        part = self.states([index], lambda _, hidden: hidden)
        size = mx.abs(whole).max().item()
        return bool(mx.allclose(whole.astype(mx.float32), part.astype(mx.float32), rtol=1e-2, atol=1e-2 * size))

    def logits(self, states: mx.array, tokens: NDArray[np.int64] | None = None) -> mx.array:
        """Logits of last hidden states (N, H) for some *tokens*, (N, n); for all of them, (N, V), if None."""
        if tokens is None:
            return self._network.logits(states)
        if (head := self._network.plain_head) is not None:
            return (states @ head[mx.array(tokens)].T).astype(mx.float32)
        return self._network.logits(states)[:, mx.array(tokens)]

    def arrange(self, members: Sequence[int], values: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Values (places, S) of each member's computed places as one (M, S), 0 where nothing is computed."""
        found = np.zeros((len(values), max(map(len, values)), values[0].shape[1]), dtype=np.int64)
        for row, part in enumerate(values):
            found[row, : len(part)] = part
        return found.reshape(-1, values[0].shape[1])

    def states(self, members: Sequence[int], writes: Writes) -> mx.array:
        """Last hidden states (N, H) at the members' places that predict labels."""
        hidden = _padded([self._hidden[index] for index in members], 0)  # (B, T, H)
        lengths = np.array([self.firsts[index] for index in members])
        caches = [self._past_of(members, lengths, layer) for layer in range(len(self._prefix))]
        given = mx.array(hidden)

        def replaced(block: int, computed: mx.array) -> mx.array:
            return writes(block, given.astype(computed.dtype) if block == self._block else computed)

        ids = mx.zeros(hidden.shape[:2], dtype=mx.int32)  # nobody reads what is made of them
        last = self._network.hidden(ids, caches, replaced, first_block=self._block)
        places = [
            np.arange(self._predicts[index] - self.firsts[index], len(self._hidden[index])) + row * hidden.shape[1]
            for row, index in enumerate(members)
        ]
        return last.reshape(-1, last.shape[-1])[mx.array(np.concatenate(places))]

    def _read(self, members: Sequence[int], plan: Any) -> None:
        seen: list[mx.array] = []

        def watch(block: int, hidden: mx.array) -> mx.array:
            if block == self._block:
                seen.append(hidden.reshape(-1, hidden.shape[-1]))
            return hidden

        _, caches = hidden_states(self._network, plan, writes=watch)
        kept = [tuple(np.array(part.astype(mx.float32)) for part in cache.rows()) for cache in caches[self._block :]]
        states = np.array(seen[0].astype(mx.float32))
        for row, (index, path) in enumerate(zip(members, plan.paths, strict=True)):
            first = self.firsts[index]
            self._hidden[index] = states[path[first:]]
            own = slice(self._shared, first)
            self._past[index] = [(k[row, :, own].copy(), v[row, :, own].copy()) for k, v in kept]
        if not self._prefix:
            self._prefix = [(mx.array(k[:1, :, : self._shared]), mx.array(v[:1, :, : self._shared])) for k, v in kept]

    def _past_of(self, members: Sequence[int], lengths: NDArray[np.int64], layer: int) -> BatchedPast:
        pairs = [self._past[index][layer] for index in members]
        parts = []
        for at, prefix in enumerate(self._prefix[layer]):
            rest = mx.array(_padded([pair[at] for pair in pairs], 1))  # (B, K, R, D)
            front = mx.broadcast_to(prefix, (len(members), *prefix.shape[1:]))
            parts.append(mx.concatenate([front, rest], axis=2))
        return BatchedPast(parts[0], parts[1], lengths)


@dataclass
class BatchedPast:
    """One block's keys and values (B, K, P, D) of rows of different lengths, before the places that a pass computes."""

    keys: mx.array
    values: mx.array
    lengths: NDArray[np.int64]

    @property
    def offset(self) -> mx.array:
        """Position of each row's first computed place, (B,)."""
        return mx.array(self.lengths.astype(np.int32))

    def make_mask(self, num_tokens: int, return_array: bool = False, window_size: int | None = None) -> mx.array:
        """(B, 1, T, P + T): a place sees its row's past and the computed places up to itself."""
        past = self.keys.shape[2]
        rows = len(self.lengths)
        before = np.broadcast_to((np.arange(past) < self.lengths[:, None])[:, None], (rows, num_tokens, past))
        causal = np.broadcast_to(np.tri(num_tokens, dtype=np.bool_), (rows, num_tokens, num_tokens))
        visible = np.concatenate([before, causal], -1)
        assert window_size is None or past + num_tokens <= window_size, (
            "examples are longer than the attention's window"
        )
        return mx.array(visible[:, None])

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """The past's, then the given ones."""
        past_keys, past_values = self.keys.astype(keys.dtype), self.values.astype(values.dtype)
        return mx.concatenate([past_keys, keys], axis=2), mx.concatenate([past_values, values], axis=2)


class MlxMemoryLearner:
    """Moves the values of a memory; they stay in numpy, and a pass gets the rows that it reads."""

    def __init__(self, passes: UpperPasses, stored: StoredMemory) -> None:
        self._passes = passes
        self._stored = stored
        self._config: MemoryConfig = stored.table.config
        self._scales = {block: layer.scale for block, layer in stored.layers.items()}
        self._values = {
            block: {"rows": layer.rows.copy(), "projection": layer.projection.copy(), **_copies(layer.gate)}
            for block, layer in stored.layers.items()
        }
        self._adams = {
            (block, name): RowAdam(values[name])
            for block, values in self._values.items()
            for name in values
            if name != "projection" or self._config.train_projection
        }

    def stored(self) -> StoredMemory:
        """The memory as it is now."""
        layers = {}
        for block, values in self._values.items():
            gate = {name: v for name, v in values.items() if name not in ("rows", "projection")}
            layers[block] = replace(
                self._stored.layers[block], rows=values["rows"], projection=values["projection"], gate=gate
            )
        return replace(self._stored, layers=layers)

    def first(self, index: int) -> int:
        """The first place of an example that is computed."""
        return self._passes.firsts[index]

    def learn(
        self, members: Sequence[int], slots: Slots, labels: NDArray[np.int64], rivals: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The losses (nats) of the members' *labels* (N,) among sorted *rivals*, after which the values have moved."""
        used, compact, values = {}, {}, {}
        for block, own in self._values.items():
            arranged = self._passes.arrange(members, slots[block])
            used[block] = np.union1d(arranged, [0])
            compact[block] = np.searchsorted(used[block], arranged)
            values[block] = {name: mx.array(v[used[block]] if name == "rows" else v) for name, v in own.items()}
        targets = mx.array(np.searchsorted(rivals, labels))

        def loss(values: dict[int, dict[str, mx.array]]) -> tuple[mx.array, mx.array]:
            writes = MemoryWrites(Memory(self._stored.table, values, self._scales), compact)
            logits = self._passes.logits(self._passes.states(members, writes), rivals)
            losses = nn.losses.cross_entropy(logits, targets)
            return losses.sum(), losses

        (_, losses), gradients = mx.value_and_grad(loss)(values)
        mx.eval(losses, gradients)
        if bool(mx.isfinite(losses).all()):
            for (block, name), adam in self._adams.items():
                places = used[block] if name == "rows" else None
                rate = self._config.row_rate if name == "rows" else self._config.projection_rate
                adam.step(np.array(gradients[block][name]), rate, places)
        return np.array(losses, dtype=np.float64)

    def likely(self, members: Sequence[int], slots: Slots, count: int) -> NDArray[np.int64]:
        """The *count* likeliest tokens at each place that predicts a label, (N, count), the best first."""
        arranged = {block: self._passes.arrange(members, parts) for block, parts in slots.items()}
        values = {block: {name: mx.array(v) for name, v in own.items()} for block, own in self._values.items()}
        states = self._passes.states(members, MemoryWrites(Memory(self._stored.table, values, self._scales), arranged))
        logits = np.array(self._passes.logits(states))
        some = np.argpartition(-logits, min(count, logits.shape[-1]) - 1)[:, :count]
        order = np.argsort(-np.take_along_axis(logits, some, 1), axis=1, kind="stable")
        found: NDArray[np.int64] = np.take_along_axis(some, order, 1)
        return found


class RowAdam:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) in which each row counts its own updates; row 0 of rows stays zero."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self._values = values
        self._mean, self._square = np.zeros_like(values), np.zeros_like(values)
        self._updates = np.zeros((len(values), *[1] * (values.ndim - 1)), np.float32)

    def step(self, gradient: NDArray[np.float32], rate: float, places: NDArray[np.int64] | None) -> None:
        """Move the rows at *places* (n,), or all of them, against *gradient* (n, …)."""
        if places is None:
            places = np.arange(len(self._values))
        else:
            places, gradient = places[places > 0], gradient[places > 0]
        self._updates[places] += 1
        count = self._updates[places]
        self._mean[places] = BETAS[0] * self._mean[places] + (1 - BETAS[0]) * gradient
        self._square[places] = BETAS[1] * self._square[places] + (1 - BETAS[1]) * gradient**2
        size = np.sqrt(self._square[places] / (1 - BETAS[1] ** count)) + EPSILON
        self._values[places] -= np.float32(rate) * self._mean[places] / (1 - BETAS[0] ** count) / size


def _copies(values: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    return {name: each.copy() for name, each in values.items()}


def _padded(parts: Sequence[NDArray[Any]], axis: int) -> NDArray[Any]:
    """The parts one above the other, filled up with zeros on *axis*."""
    longest = max(part.shape[axis] for part in parts)
    widths = [[(0, longest - part.shape[axis]) if at == axis else (0, 0) for at in range(part.ndim)] for part in parts]
    return np.stack([np.pad(part, width) for part, width in zip(parts, widths, strict=True)])
