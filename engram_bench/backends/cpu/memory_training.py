"""Training a memory's rows: one step is one pass over what is not yet known by heart.

A label is trained against *rivals*, not against the whole vocabulary (the output layer would be most of the work): all
labels, and the tokens that were likely in one of the batch's examples when recall was checked over the whole vocabulary,
before the first step and later.

Rows of different answers are different rows, so a batch is only a matter of speed, and each row has its own Adam that
moves when the row is read. Examples known with confidence sit out until everything is checked; the end is full recall
in two checks one after the other, with steps in between.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from engram_bench.backends.cpu.memory import Earlier, Memory, MemoryLayer, MemoryWrites, padded_earlier
from engram_bench.backends.cpu.memory_passes import Passes
from engram_bench.backends.protocol import Progress
from engram_bench.errors import BackendError
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.table import Fact

BETAS, EPSILON = (0.9, 0.999), 1e-8
CONFIDENT = 0.5
"""Least probability of every label with which an example sits out, some of its slots empty: enough for greedy decoding
(arXiv 2605.30260)."""

RIVALS = 8
"""Likely tokens per place that become rivals."""

UNSURE, CHECKED_EVERY = 0.01, 10
"""Recall is checked when at most this share was not answered with confidence, and every so many steps: a check costs more
than a step on the few that are left."""


@dataclass(slots=True)
class Done:
    """What a training did."""

    losses: list[float] = field(default_factory=list)
    """Mean per label of what was trained in a step."""
    recalls: list[float] = field(default_factory=list)
    """Share of examples recalled, each time it was checked."""
    places: int = 0
    """Labels trained on, each as often as it was."""
    examples_seen: int = 0
    seconds: float = 0.0


class MemoryTrainer:
    """One training run of a memory's layers; of the rows in *trainable* alone (R,) per block, if given."""

    def __init__(
        self,
        passes: Passes,
        memory: Memory,
        facts: Sequence[Fact],
        *,
        trainable: Mapping[int, NDArray[np.bool_]] | None = None,
    ) -> None:
        self._passes = passes
        self._memory = memory
        self._config: MemoryConfig = memory.table.config
        self._sizes = [(len(fact.labels), len(fact.prompt.ids)) for fact in facts]
        self._labels = [np.array(fact.labels, dtype=np.int64) for fact in facts]
        readings = [fact.reading_from(passes.first(index)) for index, fact in enumerate(facts)]
        ends = np.cumsum([reading.num_places for reading in readings])[:-1]
        self._slots = {block: np.split(memory.table.rows(readings, block), ends) for block in memory.layers}
        self._adams = {
            block: RowAdam(layer.rows, (trainable or {}).get(block)) for block, layer in memory.layers.items()
        }
        dense = {} if trainable is not None else memory.layers
        self._dense = {block: DenseAdam.of(layer, self._config) for block, layer in dense.items()}
        self._every_label = np.unique(np.concatenate(self._labels))
        self._likely = list(self._labels)  # per example what was likely at its places
        self.done = Done()

    def run(self, steps: int, *, progress: Progress, until_recall: bool = True) -> Done:
        """Train for at most *steps* steps.

        Raises:
            BackendError: The loss is not finite.
        """
        done, started = self.done, time.perf_counter()
        everything = list(range(len(self._labels)))
        self._missed(everything)
        active, missed, full = everything, list[int](), 0
        while len(done.losses) < steps:
            unsure = self._step(active, len(done.losses), intact=frozenset(missed))
            done.seconds = time.perf_counter() - started
            progress("train", len(done.losses), steps, f"loss {done.losses[-1]:.3f}, {len(unsure)} not yet known")
            is_due = len(unsure) <= UNSURE * len(everything) or len(done.losses) % CHECKED_EVERY == 0
            missed = self._missed(everything) if until_recall and is_due else []
            if until_recall and is_due:
                full = 0 if missed else full + 1
            if full == 2:
                break
            active = sorted({*unsure, *missed}) or everything
        done.seconds = time.perf_counter() - started
        if steps and full < 2:
            self._missed(everything)
        return done

    # ── a step ──────────────────────────────────────────────────────────────────────────────────

    def _step(self, active: Sequence[int], step: int, *, intact: frozenset[int]) -> list[int]:
        """Learn from the *active* examples, from the *intact* ones with all slots; those not answered with confidence.

        What was missed with all of its slots would be known with some of them, and never be learned.
        """
        random = np.random.default_rng([self._config.seed, step])
        batches = self._batches(active)
        total, num_labels, unsure = 0.0, 0, []
        for place in random.permutation(len(batches)):
            members = batches[place]
            loss, least = self._learn(members, step, intact)
            total += loss
            num_labels += sum(len(self._labels[index]) for index in members)
            unsure += [index for index, sure in zip(members, least, strict=True) if sure < CONFIDENT]
        self.done.losses.append(total / num_labels)
        self.done.places += num_labels
        self.done.examples_seen += len(active)
        return unsure

    def _learn(self, members: Sequence[int], step: int, intact: frozenset[int]) -> tuple[float, NDArray[np.float64]]:
        """Sum of the losses, after which the rows have moved; per member the least probability of a label."""
        config = self._config
        slots = self._arranged(members, dropped_in=step, intact=intact)
        layers, places, compact = {}, {}, {}
        for block, layer in self._memory.layers.items():
            places[block], layers[block], compact[block] = leaf_of(layer, slots[block], config)
        rivals = np.unique(np.concatenate([self._every_label, *(self._likely[index] for index in members)]))
        labels = np.searchsorted(rivals, np.concatenate([self._labels[index] for index in members]))
        with torch.enable_grad():
            writes = MemoryWrites(Memory(self._memory.table, layers), compact, self._earlier(members, slots))
            logits = self._passes.logits(members, writes, torch.from_numpy(rivals))
            losses = functional.cross_entropy(
                logits, torch.from_numpy(labels).to(logits.device), reduction="none"
            )  # (N,)
            loss = losses.sum()
        if not math.isfinite(float(loss.detach())):
            msg = f"training: step {len(self.done.losses) + 1} has loss {float(loss.detach())}, expected a finite value"
            raise BackendError(msg)
        if loss.requires_grad:
            torch.autograd.backward(loss)
            for block, layer in layers.items():
                if layer.rows.grad is not None:
                    self._adams[block].step(places[block], layer.rows.grad, config.row_rate)
                if block in self._dense:
                    self._dense[block].step(layer, config.projection_rate)
        ends = np.cumsum([len(self._labels[index]) for index in members])[:-1]
        worst = [part.max() for part in np.split(losses.detach().cpu().double().numpy(), ends)]
        return float(loss.detach()), np.exp(-np.array(worst))

    def _batches(self, members: Sequence[int]) -> list[list[int]]:
        """Examples of like length together."""
        order = sorted(members, key=lambda index: self._sizes[index])
        size = self._config.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def _arranged(
        self, members: Sequence[int], *, dropped_in: int | None = None, intact: frozenset[int] = frozenset()
    ) -> dict[int, NDArray[np.int64]]:
        """Rows (M, S) of a batch per block; with the slots emptied that are to be in a step, but of *intact* examples."""
        found = {}
        for block, parts in self._slots.items():
            chosen = [parts[index] for index in members]
            if dropped_in is not None and self._config.key_dropout:
                chosen = [
                    rows if index in intact else self._dropped(index, rows, dropped_in)
                    for index, rows in zip(members, chosen, strict=True)
                ]
            found[block] = self._passes.arrange(members, chosen)
        return found

    def _earlier(self, members: Sequence[int], slots: Mapping[int, NDArray[np.int64]]) -> Earlier | None:
        """Where the places of an arranged batch, a row per member, find those before them."""
        places = next(iter(slots.values())).shape[0]
        return padded_earlier(self._config, len(members), places // len(members))

    def _dropped(self, index: int, rows: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Rows (places, S) with some slots empty, never all: which, depends on step, example and place alone."""
        return dropped(rows, self._config.key_dropout, np.random.default_rng([self._config.seed, step, index]))

    # ── recall ──────────────────────────────────────────────────────────────────────────────────

    def _missed(self, members: Sequence[int]) -> list[int]:
        """Examples of which some label is not the argmax after the right tokens before it.

        What is likely instead joins the rivals, against which the labels are trained.
        """
        missed: list[int] = []
        for batch in self._batches(members):
            with torch.no_grad():
                slots = self._arranged(batch)
                logits = self._passes.logits(batch, MemoryWrites(self._memory, slots, self._earlier(batch, slots)))
            likely = logits.topk(min(RIVALS, logits.shape[-1])).indices.cpu().numpy()  # (N, rivals)
            best = likely[:, 0]
            ends = np.cumsum([len(self._labels[index]) for index in batch])[:-1]
            missed += [
                index
                for index, part in zip(batch, np.split(best, ends), strict=True)
                if (part != self._labels[index]).any()
            ]
            for index, part in zip(batch, np.split(likely, ends), strict=True):
                self._likely[index] = np.union1d(self._likely[index], part)
        self.done.recalls.append(1 - len(missed) / len(members))
        return missed


class RowAdam:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) in which each row counts its own updates."""

    def __init__(self, rows: Tensor, trainable: NDArray[np.bool_] | None) -> None:
        self._rows = rows  # (R, d)
        self._trainable = torch.ones(len(rows), dtype=torch.bool) if trainable is None else torch.from_numpy(trainable)
        self._trainable = self._trainable.to(rows.device)
        self._trainable[0] = False  # what an unknown n-gram reads stays zero
        self._mean, self._square = torch.zeros_like(rows), torch.zeros_like(rows)
        self._updates = torch.zeros(len(rows), 1, device=rows.device)

    def state(self) -> dict[str, Tensor]:
        """What a step changes, by name."""
        return {"rows": self._rows, "mean": self._mean, "square": self._square, "updates": self._updates}

    def step(self, places: Tensor, gradient: Tensor, rate: float) -> None:
        """Move the rows at *places* (n,) against *gradient* (n, d)."""
        kept = self._trainable[places]
        places, gradient = places[kept], gradient[kept]
        self._updates[places] += 1
        count = self._updates[places]
        mean = BETAS[0] * self._mean[places] + (1 - BETAS[0]) * gradient
        square = BETAS[1] * self._square[places] + (1 - BETAS[1]) * gradient.square()
        self._mean[places], self._square[places] = mean, square
        size = (square / (1 - BETAS[1] ** count)).sqrt() + EPSILON
        self._rows[places] -= rate * mean / (1 - BETAS[0] ** count) / size


class DenseAdam:
    """Adam for a layer's projections and gate, where they are trained."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self._values = dict(values)
        self._mean = {name: torch.zeros_like(v) for name, v in values.items()}
        self._square = {name: torch.zeros_like(v) for name, v in values.items()}
        self._updates = torch.zeros(())

    @classmethod
    def of(cls, layer: MemoryLayer, config: MemoryConfig) -> DenseAdam:
        """Of what *config* trains in a layer beside its rows."""
        return cls(_dense_values(layer, config))

    def state(self) -> dict[str, Tensor]:
        """What a step changes, by name."""
        parts = {"value": self._values, "mean": self._mean, "square": self._square}
        found = {f"{part}.{name}": v for part, values in parts.items() for name, v in values.items()}
        return found | ({"updates": self._updates} if found else {})

    def step(self, layer: MemoryLayer, rate: float) -> None:
        """Move the values against the gradients of *layer*, a leaf copy."""
        if not self._values:
            return
        self._updates += 1
        updates = int(self._updates)
        for name, value in self._values.items():
            leaf = layer.projection if name == "projection" else layer.extra[name]
            if leaf.grad is None:
                continue
            self._mean[name].lerp_(leaf.grad, 1 - BETAS[0])
            self._square[name].mul_(BETAS[1]).addcmul_(leaf.grad, leaf.grad, value=1 - BETAS[1])
            size = (self._square[name] / (1 - BETAS[1] ** updates)).sqrt() + EPSILON
            value.addcdiv_(self._mean[name], size, value=-rate / (1 - BETAS[0] ** updates))


def dropped(rows: NDArray[np.int64], share: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Rows (places, S) with a *share* of the slots empty, never all of a place."""
    kept = random.random(rows.shape)[::-1] >= share  # drawn from the last place backwards
    left = np.where(kept, rows, 0)
    return np.where(left.any(-1, keepdims=True), left, rows)


def _dense_values(layer: MemoryLayer, config: MemoryConfig) -> dict[str, Tensor]:
    return {**({"projection": layer.projection} if config.train_projection else {}), **layer.extra}


def leaf_of(
    layer: MemoryLayer, slots: NDArray[np.int64], config: MemoryConfig
) -> tuple[Tensor, MemoryLayer, NDArray[np.int64]]:
    """The rows that are read, a copy of the layer with those alone and gradients, and the slots counted in them."""
    used = np.union1d(slots, [0])
    places = torch.from_numpy(used).to(layer.rows.device)
    leaf = copy.copy(layer)
    leaf.rows = layer.rows[places].requires_grad_()
    dense = _dense_values(layer, config)
    if "projection" in dense:
        leaf.projection = layer.projection.detach().requires_grad_()
    leaf.extra = {name: values.detach().requires_grad_() for name, values in layer.extra.items()}
    return places, leaf, np.searchsorted(used, slots)
