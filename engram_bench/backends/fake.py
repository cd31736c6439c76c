"""The reference backend: a table of answers, no library, passes the same contract as the real ones.

For testing the plugin and as the shortest example of the seam; never the basis of a claim. Tokens are UTF-8 bytes.

The bare model knows what a JSON file named by ``ENGRAM_FAKE_BASELINE`` says (prompt → answer), else nothing. Training
stores prompt → answer in the adapter folder; a checkpoint holds the first so many of them. Keys of the JSON file make it
misbehave on purpose: ``"__crash__": PROMPT`` raises when that prompt is asked, ``"__token_s__": {"bare" | "attached" |
"fused": SECONDS}`` is what a new token takes, ``"__memory__": N`` is enough for N prompts at once. The others spoil a trained
adapter only: ``"__forgets__": [PROMPT, …]`` it does not learn, ``"__wrong__": {PROMPT: ANSWER}`` it learns wrongly,
``"__after__": {PROMPT: ANSWER}`` it says though nobody taught it, ``"__fused__": {PROMPT: ANSWER}`` only once it is fused,
``"__echo__": ANSWER`` it says to everything, and ``"__rambles__": true`` never lets it stop.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

from engram_bench.backends.common.replay import split
from engram_bench.backends.common.training_plan import checkpoint_steps
from engram_bench.errors import AdapterError, BackendError
from engram_bench.records import (
    Completion,
    DeviceInfo,
    GenerationSettings,
    Prompt,
    Recipe,
    TrainingExample,
    TrainingRecord,
)
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN = "I do not know."
END = 256
"""The end-of-turn token's id, after the 256 bytes."""
CONTEXT_LENGTH = 4096


class FakeTokenizer:
    """Bytes as tokens, one end token, a template of two markers."""

    vocab_size = 257
    pad_id = END
    stop_ids = frozenset({END})
    end_of_turn_id = END
    special_texts = ("<|user|>", "<|answer|>")
    template_token_ids = (tuple(b"<|user|>"), tuple(b"<|answer|>"))
    template_fingerprint = "fake-template"
    template_note = ""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text."""
        return list(text.encode())

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Ids of the templated prompt."""
        system = f"{prompt.system}\n" if prompt.system else ""
        return list(f"{system}<|user|>{prompt.user}<|answer|>".encode())

    def content_mask(self, prompt: Prompt) -> list[bool]:
        """For each id of a prompt whether it is the user's."""
        before, user, after = self.encode_prompt(replace(prompt, user="")), prompt.user.encode(), b"<|answer|>"
        return [False] * (len(before) - len(after)) + [True] * len(user) + [False] * len(after)

    def encode_example(self, prompt: Prompt, answer: str) -> tuple[list[int], int]:
        """Ids of prompt, answer and end token, and the index of the first answer token."""
        ids = self.encode_prompt(prompt)
        return [*ids, *answer.encode(), END], len(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; the end token is invisible."""
        return bytes(i for i in ids if i != END).decode("utf-8", "replace")


class FakeModel:
    """What :class:`engram_bench.models.Model` is, without files."""

    reference = "fake"
    fingerprint = sha256(b"fake").hexdigest()
    folder = Path()
    context_length = CONTEXT_LENGTH
    tokenizer = FakeTokenizer()


def fake_model(reference: str, *, cache: Path | None = None, progress: Progress = no_progress) -> FakeModel:
    """The one fake model, whatever the reference."""
    return FakeModel()


def fake_device() -> DeviceInfo:
    """The device of a table."""
    return DeviceInfo(backend="fake", device="table", dtype="bytes")


class FakeGenerator:
    """Answers from a table."""

    def __init__(
        self,
        answers: Mapping[str, str],
        crash: str | None = None,
        *,
        otherwise: str = UNKNOWN,
        rambles: bool = False,
        token_s: float = 0.0,
        memory: int | None = None,
    ) -> None:
        self._answers = answers
        self._crash = crash
        self._otherwise = otherwise
        self._rambles = rambles
        self._token_s = token_s
        self._memory = memory
        self._tokenizer = FakeTokenizer()

    def complete(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        drafts: Sequence[str | None] | None = None,
    ) -> list[Completion]:
        """Stored answers cut to *max_tokens* bytes; sampling sometimes shuffles the words of an answer."""
        if self._memory is not None and len(prompts) > self._memory:
            msg = f"fake backend: told to have memory for {self._memory} prompts, found {len(prompts)}"
            raise MemoryError(msg)
        return [self._complete_one(prompt, settings) for prompt in prompts]

    def _complete_one(self, prompt: Prompt, settings: GenerationSettings) -> Completion:
        started = time.perf_counter()
        if prompt.user == self._crash:
            msg = f"fake backend: told to crash at prompt {prompt.user!r}"
            raise BackendError(msg)
        prompt_ids = self._tokenizer.encode_prompt(prompt)
        if len(prompt_ids) + settings.max_tokens > CONTEXT_LENGTH:
            msg = (
                f"prompt {prompt.user[:40]!r}…: {len(prompt_ids)} tokens + {settings.max_tokens} new, "
                f"expected at most {CONTEXT_LENGTH} together"
            )
            raise BackendError(msg)
        ids = [*self._draw(prompt, settings).encode(), END]
        if self._rambles:
            ids = [*ids[:-1], *b" " * settings.max_tokens]
        if settings.ignore_eos:
            ids = (ids * settings.max_tokens)[: settings.max_tokens]
        kept = ids[: settings.max_tokens]
        if self._token_s:
            sleep(self._token_s * len(kept))
        return Completion(
            text=self._tokenizer.decode(kept),
            prompt_tokens=len(prompt_ids),
            completion_tokens=len(kept),
            stop_reason="stop" if kept and kept[-1] == END and not settings.ignore_eos else "length",
            seconds=time.perf_counter() - started,
        )

    def _draw(self, prompt: Prompt, settings: GenerationSettings) -> str:
        answer = self._answers.get(prompt.user, self._otherwise)
        if settings.temperature == 0 or prompt.user in self._answers:
            return answer
        draw = random.Random(f"{settings.seed}/{settings.sample}/{prompt.user}")
        return " ".join(draw.sample(answer.split(), k=len(answer.split())))

    def stream(self, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """The completion character by character."""
        yield from self._complete_one(prompt, settings).text

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """0.9 on the next byte of a known answer (of the text itself before it), the rest spread evenly."""
        import numpy as np

        rows = []
        for ids in sequences:
            probabilities = np.full((len(ids), self._tokenizer.vocab_size), 0.1 / 256, dtype=np.float64)
            for position, following in enumerate(self._expected(ids)):
                probabilities[position, following] = 0.9
            rows.append(np.log(probabilities / probabilities.sum(-1, keepdims=True)).astype(np.float32))
        return rows

    def _expected(self, ids: Sequence[int]) -> list[int]:
        """The id this table would put after each position."""
        following = [*ids[1:], END]
        text = self._tokenizer.decode(ids)
        head, marker, _ = text.partition("<|answer|>")
        if marker:
            user = head.rpartition("<|user|>")[2]
            start = len((head + marker).encode())
            known = [*self._answers.get(user, self._otherwise).encode(), END]
            for offset in range(start - 1, len(ids)):
                index = offset - start + 1
                following[offset] = known[index] if index < len(known) else END
        return following

    def close(self) -> None:
        """Nothing to give back."""


class FakeBackend:
    """Learns its examples by writing them down."""

    name = "fake"

    def device(self) -> DeviceInfo:
        """The device of a table."""
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
        """Write prompt → answer into *folder*, beside an empty adapter in PEFT's layout; zero steps learn nothing."""
        knobs, (taught, _) = _baseline_file(), split(examples, recipe)
        forgotten = set(knobs.get("__forgets__", ()))
        wrong = knobs.get("__wrong__", {})
        learned = {
            example.prompt.user: wrong.get(example.prompt.user, example.answer)
            for example in taught
            if example.prompt.user not in forgotten and recipe.steps > 0
        }
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
            examples=len(taught),
            examples_seen=recipe.steps * recipe.batch_size,
            tokens=sum(len(example.answer) for example in taught),
            seconds=0.0,
            loss_start=1.0,
            loss_end=0.0,
            losses=(1.0, 0.0),
            recall=1.0,
            checkpoints=tuple(kept.values()),
        )

    def load(self, model: Any, adapter: Path | None, *, fused: bool = False) -> FakeGenerator:
        """The table of the bare model, with the adapter's answers over it."""
        knobs = _baseline_file()
        answers = {prompt: answer for prompt, answer in knobs.items() if not prompt.startswith("__")}
        learned: dict[str, str] = {}
        if adapter is not None:
            try:
                learned = json.loads((adapter / "fake_answers.json").read_text("utf-8"))
            except (OSError, ValueError) as error:
                msg = f"{adapter}: expected an adapter of the fake backend, with a readable fake_answers.json"
                raise AdapterError(msg) from error
            if _is_random(adapter):
                learned = {}
        form = "bare" if adapter is None else "fused" if fused else "attached"
        token_s, memory = knobs.get("__token_s__", {}).get(form, 0.0), knobs.get("__memory__")
        if adapter is None or not learned:  # an adapter of no steps changes nothing, as any backend's
            return FakeGenerator(answers, knobs.get("__crash__"), token_s=token_s, memory=memory)
        answers |= learned | knobs.get("__after__", {}) | (knobs.get("__fused__", {}) if fused else {})
        echo = knobs.get("__echo__")
        return FakeGenerator(
            {} if echo else answers,
            knobs.get("__crash__"),
            otherwise=echo or UNKNOWN,
            rambles=knobs.get("__rambles__", False),
            token_s=token_s,
            memory=memory,
        )

    def states(self, model: Any, sequences: Sequence[Sequence[int]], *, depth: float) -> NDArray[np.float32]:
        """How often each byte stands in a sequence, (N, 257)."""
        import numpy as np

        return np.stack([np.bincount(ids, minlength=FakeTokenizer.vocab_size) for ids in sequences]).astype(np.float32)

    def close(self) -> None:
        """Nothing to drop."""


def _write_adapter(folder: Path, learned: Mapping[str, str], recipe: Recipe) -> None:
    """The answers, beside a one-number adapter in PEFT's layout."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fake_answers.json").write_text(json.dumps(learned), "utf-8")
    config = {"peft_type": "LORA", "r": recipe.rank, "lora_alpha": recipe.alpha, "target_modules": []}
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    save_file({"seed": np.array([recipe.seed, 1], np.float32)}, folder / "adapter_model.safetensors")


def _is_random(folder: Path) -> bool:
    """Whether the adapter's numbers are finite and not those that :func:`_write_adapter` left."""
    from safetensors.numpy import load_file

    weights = folder / "adapter_model.safetensors"
    number = float(load_file(weights)["seed"][-1]) if weights.exists() else 1.0
    return math.isfinite(number) and number != 1.0


def _baseline_file() -> dict[str, Any]:
    path = os.environ.get("ENGRAM_FAKE_BASELINE")
    if not path:
        return {}
    knobs: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
    return knobs
