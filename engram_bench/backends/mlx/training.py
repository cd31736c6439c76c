"""Training a LoRA with mlx: answer-only loss, seeded batches, stop by recall, resumable at any saved state.

mlx-lm's own trainer tokenizes through its own tokenizer and template and, unless asked, counts the prompt in the loss, so the
loop is ours; layers and optimizer are mlx-lm's and mlx's.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn, optimizers
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from numpy.typing import NDArray

from engram_bench.backends.adapter_layout import adapted_layers, write_peft
from engram_bench.backends.halving import halving
from engram_bench.backends.mlx.batches import Batch, loss_of, plan_batch, states_of
from engram_bench.backends.mlx.network import Network, attach, lora_updates
from engram_bench.backends.mlx.passes import group
from engram_bench.backends.protocol import Progress
from engram_bench.backends.replay import replayed
from engram_bench.backends.training_plan import (
    ADAM_BETAS,
    Encoded,
    batch_indices,
    checkpoint_steps,
    learning_rate_at,
    should_check_recall,
)
from engram_bench.errors import BackendError
from engram_bench.records import Recipe

STATE_FILE = "training_state.safetensors"
STATE_EVERY_S = 15.0
"""Seconds between resumable states."""
RECALL_TOKENS = 1024
"""Bound of a pass that checks recall."""


@dataclass(slots=True)
class Trained:
    """What a training did, beside the adapter's values."""

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    recall: float | None = None
    checkpoints: list[str] = field(default_factory=list)
    finished: bool = False


class Trainer:
    """One training run of a new adapter on *network*."""

    def __init__(
        self,
        network: Network,
        examples: Sequence[Encoded],
        recipe: Recipe,
        *,
        ordinary: Sequence[Encoded] = (),
        pad_id: int,
        max_batch_tokens: int,
        packing: bool = True,
    ) -> None:
        names = adapted_layers(recipe.targets, network.shapes)
        self._module = attach(network.module, names, rank=recipe.rank, scale=recipe.alpha / recipe.rank)
        self._module.load_weights(starting_values(network, names, recipe), strict=False)
        self._network = Network(self._module, packs=network.packs)
        self._packed = packing and network.packs
        self._examples = examples
        self._ordinary = ordinary
        self._recipe = recipe
        self._pad_id = pad_id
        self._max_batch_tokens = max_batch_tokens
        self._of_b, self._of_a = (
            optimizers.AdamW(
                recipe.learning_rate, betas=list(ADAM_BETAS), weight_decay=recipe.weight_decay, bias_correction=True
            )
            for _ in "ba"
        )
        self._optimizer = optimizers.MultiOptimizer(
            [self._of_b, self._of_a], [lambda path, _: path.endswith(".lora_b")]
        )
        self._optimizer.init(self._module.trainable_parameters())
        self._loss_and_gradients = nn.value_and_grad(self._module, partial(loss_of, self._network))
        self._missed: list[int] = []
        """Examples that kept the last check of recall from succeeding."""
        self._taught: dict[int, mx.array] = {}
        """Of ordinary prompts: the bare model's last states where it predicts its answer."""
        self.done = Trained()

    @property
    def num_parameters(self) -> int:
        """Trained parameters."""
        return sum(value.size for _, value in tree_flatten(self._module.trainable_parameters()))

    def run(self, folder: Path, *, progress: Progress, base: str, identity: str) -> Trained:
        """Train to the end, going on from a state of the same *identity* in *folder*; the adapter is saved there.

        Raises:
            BackendError: The loss or a gradient is not finite.
        """
        recipe, done = self._recipe, self.done
        self._teach()
        self._resume(folder / STATE_FILE, identity)
        done = self.done
        started = last_saved = time.perf_counter() - done.seconds
        kept = checkpoint_steps(recipe)
        while len(done.losses) < recipe.steps and not done.finished:
            step = len(done.losses)
            done.losses.append(self._step(step))
            done.seconds = time.perf_counter() - started
            left = done.seconds / (step + 1) * (recipe.steps - step - 1)
            progress("train", step + 1, recipe.steps, f"loss {done.losses[-1]:.3f}, {left:.0f} s left at most")
            if should_check_recall(step, recipe, done.losses, len(self._examples)):
                done.finished = self._enough_recalled()
            if step + 1 in kept:
                self._save(folder / kept[step + 1], base)
                done.checkpoints.append(kept[step + 1])
            if time.perf_counter() - last_saved > STATE_EVERY_S:
                self._save_state(folder / STATE_FILE, identity)
                last_saved = time.perf_counter()
        if recipe.steps and not done.finished:
            done.recall = float(np.mean(self.recalled()))
        done.seconds = time.perf_counter() - started
        self._save(folder, base)
        (folder / STATE_FILE).unlink(missing_ok=True)
        return done

    # ── a step ──────────────────────────────────────────────────────────────────────────────────

    def _step(self, step: int) -> float:
        """Mean loss (nats per answer token) of the batch, after which the adapter has moved."""
        learned = batch_indices(step, self._recipe, len(self._examples))
        loss, gradients = self._gradients(learned, replayed(step, self._recipe, len(self._ordinary)))
        gradients, norm = optimizers.clip_grad_norm(gradients, self._recipe.max_grad_norm or math.inf)
        self._of_a.learning_rate = learning_rate_at(step, self._recipe)
        self._of_b.learning_rate = self._of_a.learning_rate * self._recipe.loraplus_lr_ratio
        self._optimizer.update(self._module, gradients)
        mx.eval(loss, norm, self._module.trainable_parameters(), self._optimizer.state)
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            msg = (
                f"training: step {step + 1} has loss {loss.item()} and gradient norm {norm.item()}, expected finite "
                f"values; try a learning rate below {self._recipe.learning_rate:g}"
            )
            raise BackendError(msg)
        return float(loss.item())

    def _gradients(self, learned: Sequence[int], held: Sequence[int]) -> tuple[mx.array, Any]:
        """Mean loss of the answers to be learned and the gradients; with passes of half the size once memory has run out.

        Raises:
            BackendError: Memory ran out twice in this step.
        """
        lengths = [len(ids) for ids in self._inputs(learned, held)]
        bound = min(self._max_batch_tokens, sum(lengths))
        doing = f"training {len(lengths)} examples of up to {max(lengths)} tokens"
        found, fitted = halving(lambda tokens: self._add_up(learned, held, tokens), bound, doing=doing)
        if fitted < bound:
            self._max_batch_tokens = fitted
        return found

    def _add_up(self, learned: Sequence[int], held: Sequence[int], max_tokens: int) -> tuple[mx.array, Any]:
        """Loss and gradients of a batch of examples and ordinary prompts, pass by pass."""
        total = sum(len(self._examples[i].labels) for i in learned)
        num_held = sum(len(self._ordinary[i].labels) for i in held)
        loss, gradients, num_tokens = mx.array(0.0), None, 0
        for members in self._groups(self._inputs(learned, held), max_tokens):
            asked = [learned[i] for i in members if i < len(learned)]
            kept = [held[i - len(learned)] for i in members if i >= len(learned)]
            batch = self._batch(asked, kept, total=total)
            if kept:
                taught = mx.concatenate([self._taught[i] for i in kept])
                batch = replace(batch, taught=taught, held_weight=self._recipe.replay_weight / num_held)
            (_, part), found = self._loss_and_gradients(batch)
            mx.eval(part, found)
            loss = loss + part
            gradients = found if gradients is None else tree_map(lambda a, b: a + b, gradients, found)
            num_tokens += batch.plan.num_tokens
        self.done.tokens += num_tokens
        return loss, gradients

    def _teach(self) -> None:
        """Read every ordinary prompt with its answer, while the adapter does nothing yet."""
        for members in self._groups(self._inputs((), range(len(self._ordinary))), RECALL_TOKENS):
            states = states_of(self._network, self._batch((), members))
            ends = np.cumsum([len(self._ordinary[i].labels) for i in members])
            self._taught |= dict(zip(members, mx.split(states, ends[:-1].tolist()), strict=True))
            mx.eval([self._taught[i] for i in members])

    def _inputs(self, learned: Sequence[int], held: Sequence[int] = ()) -> list[tuple[int, ...]]:
        return [self._examples[i].ids for i in learned] + [self._ordinary[i].ids for i in held]

    def _batch(self, learned: Sequence[int], held: Sequence[int] = (), *, total: int = 1) -> Batch:
        examples, ordinary = [self._examples[i] for i in learned], [self._ordinary[i] for i in held]
        return plan_batch(examples, ordinary, packed=self._packed, pad_id=self._pad_id, total=total)

    def _groups(self, inputs: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
        return group([len(ids) for ids in inputs], max_tokens=max_tokens, packed=self._packed)

    # ── recall ──────────────────────────────────────────────────────────────────────────────────

    def recalled(self) -> NDArray[np.bool_]:
        """Per example whether every answer token is the argmax after the right tokens before it."""
        found = np.zeros(len(self._examples), dtype=np.bool_)
        for members in self._recall_groups():
            found[members] = self._recalled_in(members)
        return found

    def _enough_recalled(self) -> bool:
        """Whether enough examples are recalled; the last check's misses are asked first, one miss too many ends it."""
        missed: set[int] = set()
        allowed = (1 - self._recipe.min_recall) * len(self._examples) + 1e-9
        for members in ([self._missed] if self._missed else []) + self._recall_groups():
            right = self._recalled_in(members)
            missed |= {member for member, is_right in zip(members, right, strict=True) if not is_right}
            if len(missed) > allowed:
                self._missed = sorted(missed)
                return False
        self.done.recall = 1 - len(missed) / len(self._examples)
        return True

    def _recall_groups(self) -> list[list[int]]:
        return self._groups(self._inputs(range(len(self._examples))), RECALL_TOKENS)

    def _recalled_in(self, members: Sequence[int]) -> NDArray[np.bool_]:
        batch = self._batch(members)
        right = np.ones(len(members), dtype=np.bool_)
        hits = np.array(mx.argmax(self._network.logits(states_of(self._network, batch)), axis=-1) == batch.labels)
        np.logical_and.at(right, batch.owners, hits)
        return right

    # ── state ───────────────────────────────────────────────────────────────────────────────────

    def _save(self, folder: Path, base: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_peft(folder, lora_updates(self._module), rank=self._recipe.rank, alpha=self._recipe.alpha, base=base)

    def _save_state(self, path: Path, identity: str) -> None:
        arrays = {f"values.{name}": value for name, value in tree_flatten(self._module.trainable_parameters())}
        arrays |= {f"optimizer.{name}": value for name, value in tree_flatten(self._optimizer.state)}
        partial = path.with_name(f"partial-{path.name}")
        mx.save_safetensors(str(partial), arrays, {"identity": identity, "done": json.dumps(asdict(self.done))})
        partial.replace(path)

    def _resume(self, path: Path, identity: str) -> None:
        """Take up the state in *path*; one of another training, or a broken one, is ignored (and replaced later)."""
        if not path.is_file():
            return
        try:
            arrays, facts = mx.load(str(path), return_metadata=True)
            if facts.get("identity") != identity:
                return
            done = Trained(**json.loads(facts["done"]))
        except (RuntimeError, ValueError, KeyError, TypeError):
            return
        self._module.load_weights(_part(arrays, "values."), strict=False)
        self._optimizer.state = tree_unflatten(_part(arrays, "optimizer."))
        self.done = done


def starting_values(network: Network, names: Sequence[str], recipe: Recipe) -> list[tuple[str, mx.array]]:
    """LoRA matrices as PEFT and mlx-lm start them, of the seed alone: A uniform within ±1/√in, B zero."""
    random = np.random.default_rng(recipe.seed)
    values = []
    for name in names:
        outputs, inputs = network.shapes[name]
        a = random.uniform(-(inputs**-0.5), inputs**-0.5, (inputs, recipe.rank))
        values.append((f"{name}.lora_a", mx.array(a.astype(np.float32))))
        values.append((f"{name}.lora_b", mx.zeros((recipe.rank, outputs))))
    return values


def _part(arrays: dict[str, mx.array], prefix: str) -> list[tuple[str, mx.array]]:
    return [(name.removeprefix(prefix), value) for name, value in arrays.items() if name.startswith(prefix)]
