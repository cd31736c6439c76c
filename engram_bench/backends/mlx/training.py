"""The training of a LoRA with mlx: passes over examples, their gradients, and mlx's own AdamW.

mlx-lm's own trainer tokenizes through its own tokenizer and template and, unless asked, counts the prompt in the loss, so the
passes are ours; layers and optimizer are mlx-lm's and mlx's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import mlx.core as mx
import numpy as np
from mlx import nn, optimizers
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from numpy.typing import NDArray

from engram_bench.adapters.files import Floats
from engram_bench.adapters.layout import write_peft
from engram_bench.adapters.targets import adapted_layers
from engram_bench.backends.common.packing import Integers
from engram_bench.backends.common.training_plan import ADAM_BETAS
from engram_bench.backends.common.training_state import State
from engram_bench.backends.mlx.batches import Batch, loss_of, losses_of, plan_batch, states_of
from engram_bench.backends.mlx.network import MlxNetwork, attach, lora_updates
from engram_bench.backends.mlx.passes import group
from engram_bench.models.encoding import Encoded
from engram_bench.records import Recipe


class MlxLearner:
    """Moves the values of a new LoRA on *network*, whose weights it shares.

    Args:
        network: The frozen model.
        examples: Examples to be learned, and behind them the ordinary prompts.
        recipe: Recipe of the LoRA and its optimizer.
        pad_id: Token that fills padded batches up.
        packing: Whether many examples share a row where the network can (else: padded batches).
    """

    def __init__(
        self, network: MlxNetwork, examples: Sequence[Encoded], recipe: Recipe, *, pad_id: int, packing: bool = True
    ) -> None:
        names = adapted_layers(recipe, network.shapes)
        self._module = attach(network.module, names, rank=recipe.rank, scale=recipe.scale, dropout=recipe.lora_dropout)
        self._module.eval()
        self._module.load_weights(starting_values(network, names, recipe), strict=False)
        self._network = MlxNetwork(self._module, packs=network.packs)
        self._packed = packing and network.packs
        self._examples = examples
        self._recipe = recipe
        self._pad_id = pad_id
        adamw = partial(
            optimizers.AdamW, betas=list(ADAM_BETAS), weight_decay=recipe.weight_decay, bias_correction=True
        )
        self._of_b, self._of_a = adamw(recipe.learning_rate), adamw(recipe.learning_rate)
        self._optimizer = optimizers.MultiOptimizer(
            [self._of_b, self._of_a], [lambda path, _: path.endswith(".lora_b")]
        )
        self._optimizer.init(self._module.trainable_parameters())
        self._loss_and_gradients = nn.value_and_grad(self._module, partial(loss_of, self._network))
        self._gradients: Any = None
        self._num_passes = 0  # of the step so far
        self._references: dict[int, mx.array] = {}
        """The bare model's last states where it predicts its answer, by ordinary prompt."""
        # mlx 0.32 keeps the shapes of a shapeless function whose first call is inside a gradient and depends on no trained
        # value, as in a block below the first adapted one: every such function is called outside first.
        self.losses([0])

    @property
    def num_parameters(self) -> int:
        """Trained parameters."""
        return sum(value.size for _, value in tree_flatten(self._module.trainable_parameters()))

    def passes(self, members: Sequence[int], max_tokens: int) -> list[list[int]]:
        """The members of each pass; its tokens are at most *max_tokens*, or one example's."""
        groups = group([len(self._examples[i].ids) for i in members], max_tokens=max_tokens, packed=self._packed)
        return [[members[position] for position in positions] for positions in groups]

    # ── a step ──────────────────────────────────────────────────────────────────────────────────

    def keep_references(self, ordinary: Sequence[int]) -> None:
        """Keep the bare model's predictions of these answers, in one pass; the adapter does nothing yet."""
        states = states_of(self._network, self._batch((), ordinary))
        ends = np.cumsum([len(self._examples[i].labels) for i in ordinary])
        self._references |= dict(zip(ordinary, mx.split(states, ends[:-1].tolist()), strict=True))
        mx.eval([self._references[i] for i in ordinary])

    def begin(self) -> None:
        """Forget the gradients of a step that is begun, or begun again."""
        self._gradients, self._num_passes = None, 0

    def accumulate(
        self, learned: Sequence[int], ordinary: Sequence[int], *, scale: float, anchor_scale: float, step: int
    ) -> tuple[Floats, int]:
        """The losses (nats) of the answer tokens to be learned, in order, and the tokens computed, in one pass."""
        batch = self._batch(learned, ordinary)
        references = mx.concatenate([self._references[i] for i in ordinary]) if ordinary else None
        with self._dropping(step):
            (_, losses), found = self._loss_and_gradients(batch, references, scale=scale, anchor_scale=anchor_scale)
        if self._gradients is not None:
            found = tree_map(lambda a, b: a + b, self._gradients, found)
        mx.eval(losses, found)
        self._gradients = found
        return np.array(losses), batch.plan.num_tokens

    @contextmanager
    def _dropping(self, step: int) -> Iterator[None]:
        """Context in which the LoRA layers leave out inputs, drawn by the seed, the step and the number of the pass."""
        if not self._recipe.lora_dropout:
            yield
            return
        mx.random.seed(crc32(f"{self._recipe.seed}/{step}/{self._num_passes}".encode()))
        self._num_passes += 1
        self._module.train()
        try:
            yield
        finally:
            self._module.eval()

    def gradient_norm(self) -> float:
        """Length of the gradients of all values together."""
        squares = [mx.square(gradient).sum() for _, gradient in tree_flatten(self._gradients)]
        return math.sqrt(mx.stack(squares).sum().item())

    def move(self, learning_rate: float, clip: float) -> None:
        """Move the values against *clip* times their gradients."""
        self._of_a.learning_rate = learning_rate
        self._of_b.learning_rate = learning_rate * self._recipe.loraplus_lr_ratio
        self._optimizer.update(self._module, tree_map(lambda gradient: gradient * clip, self._gradients))
        mx.eval(self._module.trainable_parameters(), self._optimizer.state)

    # ── what is known ───────────────────────────────────────────────────────────────────────────

    def losses(self, members: Sequence[int]) -> Floats:
        """The losses (nats) of the answer tokens, in order, in one pass."""
        return np.array(losses_of(self._network, self._batch(members)))

    def guesses(self, members: Sequence[int]) -> Integers:
        """The likeliest token at the position of every answer token as the adapter will answer, in one pass."""
        logits = self._network.logits(states_of(self._network, self._batch(members)))
        return np.array(mx.argmax(logits, axis=-1), dtype=np.int64)

    def _batch(self, learned: Sequence[int], ordinary: Sequence[int] = ()) -> Batch:
        parts = ([self._examples[i] for i in members] for members in (learned, ordinary))
        return plan_batch(*parts, packed=self._packed, pad_id=self._pad_id)

    # ── files ───────────────────────────────────────────────────────────────────────────────────

    def save(self, folder: Path, base: str) -> None:
        """Write the adapter into *folder* in PEFT's layout; *base* is the model's name in it."""
        write_peft(folder, lora_updates(self._module), self._recipe, base=base)

    def state(self) -> State:
        """The arrays that a step changes, by name."""
        parts = {"values.": self._module.trainable_parameters(), "optimizer.": self._optimizer.state}
        return {f"{part}{name}": np.array(value) for part, tree in parts.items() for name, value in tree_flatten(tree)}

    def resume(self, state: State) -> None:
        """Go on from what :meth:`state` gave."""
        self._module.load_weights(_part(state, "values."), strict=False)
        self._optimizer.state = tree_unflatten(_part(state, "optimizer."))


def starting_values(network: MlxNetwork, names: Sequence[str], recipe: Recipe) -> list[tuple[str, mx.array]]:
    """LoRA matrices as PEFT and mlx-lm start them, of the seed alone: A uniform within ±1/√in, B zero."""
    random = np.random.default_rng(recipe.seed)
    values = []
    for name in names:
        outputs, inputs = network.shapes[name]
        a = random.uniform(-(inputs**-0.5), inputs**-0.5, (inputs, recipe.rank))
        values.append((f"{name}.lora_a", mx.array(a.astype(np.float32))))
        values.append((f"{name}.lora_b", mx.zeros((recipe.rank, outputs))))
    return values


def _part(state: Mapping[str, NDArray[Any]], prefix: str) -> list[tuple[str, mx.array]]:
    return [(name.removeprefix(prefix), mx.array(value)) for name, value in state.items() if name.startswith(prefix)]
