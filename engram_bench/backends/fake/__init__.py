"""The ``fake`` backend: a table of answers that needs no library and keeps the contract of the real backends.

It serves tests of the plugin and is the shortest example of a backend; its answers support no claim about models. Tokens are
UTF-8 bytes.

The bare model knows the answers (prompt → answer) of a JSON file that ``ENGRAM_FAKE_BASELINE`` names, else none. Training
writes prompt → answer into the adapter folder; a checkpoint holds the first few answers. These keys of the JSON file cause
faults:

- ``"__crash__": PROMPT``: this prompt raises an error.
- ``"__token_s__": {"bare" | "attached" | "fused": SECONDS}``: time of each new token.
- ``"__memory__": N``: memory holds at most N prompts at once.
- ``"__models__": {MODEL: {PROMPT: ANSWER}}``: what the model ``fake/NAME`` knows in place of these answers.
- ``"__untrainable__": SEED``: training with this seed fails.

The other keys affect trained adapters only:

- ``"__forgets__": [PROMPT, …]``: prompts that training leaves out.
- ``"__wrong__": {PROMPT: ANSWER}``: answers that replace the trained ones.
- ``"__after__": {PROMPT: ANSWER}``: answers that no example contains.
- ``"__fused__": {PROMPT: ANSWER}``: answers of a fused adapter.
- ``"__echo__": ANSWER``: one answer to every prompt.
- ``"__rambles__": true``: no answer ends by itself.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_bench.backends.common.replay import split
from engram_bench.backends.common.training_plan import checkpoint_steps
from engram_bench.backends.fake.generator import UNKNOWN, FakeGenerator
from engram_bench.backends.fake.model import CONTEXT_LENGTH, FakeModel, FakeTokenizer, fake_model
from engram_bench.errors import AdapterError, BackendError, UnsupportedError
from engram_bench.models.encoding import encode_examples
from engram_bench.records import DeviceInfo, Recipe, TrainingExample, TrainingRecord
from engram_bench.system.files import write_atomic
from engram_bench.system.progress import Progress, no_progress
from engram_bench.system.reading import read_json
from engram_bench.system.tensor_files import read_arrays, write_arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FakeBackend", "FakeGenerator", "FakeModel", "FakeTokenizer", "check_opens", "fake_device", "fake_model"]


def fake_device() -> DeviceInfo:
    """Device of the fake backend: a table."""
    return DeviceInfo(backend="fake", device="table", dtype="bytes")


class FakeBackend:
    """Backend that stores the examples it is trained on."""

    name = "fake"

    def device(self) -> DeviceInfo:
        """Device of this backend: a table."""
        return fake_device()

    def train(
        self,
        model: Any,
        examples: Sequence[TrainingExample],
        recipe: Recipe,
        folder: Path,
        *,
        progress: Progress = no_progress,
    ) -> TrainingRecord:
        """Write prompt → answer into *folder*, beside an empty adapter in PEFT's layout. Zero steps store no answer.

        Raises:
            BackendError: There is no example, one exceeds the context, or the seed is that of ``__untrainable__``.
        """
        faults, (to_learn, _) = _baseline_file(), split(examples, recipe)
        if recipe.seed == faults.get("__untrainable__"):
            msg = f"fake backend: training with seed {recipe.seed} fails (__untrainable__)"
            raise BackendError(msg)
        forgotten = set(faults.get("__forgets__", ()))
        wrong = faults.get("__wrong__", {})
        learned = {
            example.prompt.user: wrong.get(example.prompt.user, example.answer)
            for example in to_learn
            if example.prompt.user not in forgotten and recipe.steps > 0
        }
        encode_examples(model, to_learn, CONTEXT_LENGTH)
        for step in range(recipe.steps):
            progress("train", step + 1, recipe.steps, "loss 0.00")
        kept = checkpoint_steps(recipe) if recipe.checkpoints else {}
        for step, name in kept.items():
            known = len(learned) * step // recipe.steps
            _write_adapter(folder / name, dict(list(learned.items())[:known]), recipe)
        _write_adapter(folder, learned, recipe)
        return TrainingRecord(
            backend="fake",
            device="table",
            dtype="bytes",
            steps=recipe.steps,
            examples=len(to_learn),
            examples_seen=recipe.steps * recipe.batch_size,
            tokens=sum(len(example.answer) for example in to_learn),
            seconds=0.0,
            loss_start=1.0,
            loss_end=0.0,
            losses=(1.0, 0.0),
            recall=1.0,
            checkpoints=tuple(kept.values()),
        )

    def extend_memory(
        self,
        model: Any,
        adapter: Path,
        examples: Sequence[TrainingExample],
        folder: Path,
        *,
        steps: int,
        progress: Progress = no_progress,
    ) -> TrainingRecord:
        """Raise an error, because a table has no memory.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("backend 'fake' cannot extend a memory, expected backend cpu or cuda")

    def load(self, model: Any, adapter: Path | None, *, fused: bool = False) -> FakeGenerator:
        """A generator with the bare model's answers, replaced by those of the adapter.

        Raises:
            AdapterError: The folder holds no adapter of the fake backend.
        """
        faults = _baseline_file()
        known = faults.get("__models__", {}).get(model.reference, faults)
        answers = {prompt: answer for prompt, answer in known.items() if not prompt.startswith("__")}
        learned: dict[str, str] = {}
        if adapter is not None:
            learned = _learned(adapter)
            if _is_random(adapter):
                learned = {}
        form = "bare" if adapter is None else "fused" if fused else "attached"
        token_s, memory = faults.get("__token_s__", {}).get(form, 0.0), faults.get("__memory__")
        if adapter is None or not learned:  # an adapter of no steps changes nothing, as any backend's
            return FakeGenerator(answers, faults.get("__crash__"), token_s=token_s, memory=memory)
        answers |= learned | faults.get("__after__", {}) | (faults.get("__fused__", {}) if fused else {})
        echo = faults.get("__echo__")
        return FakeGenerator(
            {} if echo else answers,
            faults.get("__crash__"),
            otherwise=echo or UNKNOWN,
            rambles=faults.get("__rambles__", False),
            token_s=token_s,
            memory=memory,
        )

    def states(self, model: Any, sequences: Sequence[Sequence[int]], *, depth: float) -> NDArray[np.float32]:
        """Number of times that each token occurs in a sequence, (N, 257)."""
        import numpy as np

        return np.stack([np.bincount(ids, minlength=FakeTokenizer.vocab_size) for ids in sequences]).astype(np.float32)

    def close(self) -> None:
        """No effect: a table holds no memory of a device."""


def check_opens(model: Any, adapter: Path | None) -> None:
    """Raise the error that loading the adapter in this folder would end in; None is the bare model.

    Raises:
        AdapterError: The folder holds no adapter of the fake backend.
    """
    if adapter is not None:
        _learned(adapter)


def _learned(adapter: Path) -> dict[str, str]:
    try:
        answers: dict[str, str] = read_json(adapter / "fake_answers.json")
    except (OSError, ValueError) as error:
        msg = f"{adapter}: expected an adapter of the fake backend, with a readable fake_answers.json"
        raise AdapterError(msg) from error
    return answers


def _write_adapter(folder: Path, learned: Mapping[str, str], recipe: Recipe) -> None:
    """Write the answers, beside an adapter in PEFT's layout that holds a number of the recipe and 1."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "fake_answers.json", json.dumps(learned))
    config = {"peft_type": "LORA", "r": recipe.rank, "lora_alpha": recipe.alpha, "target_modules": []}
    write_atomic(folder / "adapter_config.json", json.dumps(config))
    write_arrays(
        folder / "adapter_model.safetensors", {"seed": np.array([recipe.seed + recipe.lora_dropout, 1], np.float32)}
    )


def _is_random(folder: Path) -> bool:
    """Whether the adapter's numbers are finite and differ from those that :func:`_write_adapter` wrote."""
    weights = folder / "adapter_model.safetensors"
    number = float(read_arrays(weights)[0]["seed"][-1]) if weights.exists() else 1.0
    return math.isfinite(number) and number != 1.0


def _baseline_file() -> dict[str, Any]:
    path = os.environ.get("ENGRAM_FAKE_BASELINE")
    if not path:
        return {}
    content: dict[str, Any] = read_json(Path(path))
    return content
