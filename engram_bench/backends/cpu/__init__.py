"""The ``cpu`` backend: torch, trained by hand-packed batches, adapters in PEFT's layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from engram_bench.backends.cpu.generation import Decoder, DecodingPlan, Row, read_log_probs, row_random
from engram_bench.backends.cpu.lora import Lora, load_lora, new_lora
from engram_bench.backends.cpu.network import Network, open_network
from engram_bench.backends.cpu.training import Encoded, Trainer, identity_of, peak_memory_mb
from engram_bench.backends.devices import installed_versions
from engram_bench.backends.protocol import Progress, no_progress
from engram_bench.errors import BackendError
from engram_bench.records import (
    Completion,
    DeviceInfo,
    GenerationSettings,
    Prompt,
    Recipe,
    TrainingExample,
    TrainingRecord,
)

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer, Model

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class CpuBackend:
    """Trains and answers with torch.

    Args:
        packing: Put several sequences in one row (else: padded batches).
        drafts: Verify draft answers in the reading pass (else: decode every token).
        prefix_cache: Compute the prompts' common prefix once a call.
        max_batch_tokens: Bound of rows x length of a decoding batch, and of the tokens of a training pass.
        threads: For torch; None leaves its setting alone.
        device: ``cpu`` or any torch device.
        dtype: Of weights and activations, ``float32`` or ``bfloat16``.
        products: Of the factors of training's large products; sums, weights and all else stay in *dtype*.
        lean: Use our own forward and backward pass where it covers the architecture (else: transformers).
    """

    name = "cpu"

    def __init__(
        self,
        *,
        packing: bool = True,
        drafts: bool = True,
        prefix_cache: bool = True,
        max_batch_tokens: int = 8192,
        threads: int | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        products: str = "float32",
        lean: bool = True,
    ) -> None:
        self._plan = DecodingPlan(packing=packing, prefix_cache=prefix_cache, max_batch_tokens=max_batch_tokens)
        self._drafts = drafts
        self._device = device
        self._dtype = dtype
        self._products = products
        self._lean = lean
        self._network: Network | None = None
        self._fingerprint = ""
        if threads is not None:
            torch.set_num_threads(threads)

    def device(self) -> DeviceInfo:
        """Where this backend runs, with the versions of the libraries it uses."""
        return DeviceInfo(
            backend=self.name,
            device=self._device,
            dtype=self._dtype,
            versions=installed_versions("torch", "transformers", "peft"),
            note=f"{torch.get_num_threads()} threads",
        )

    def train(
        self,
        model: Model,
        examples: Sequence[TrainingExample],
        recipe: Recipe,
        folder: Path,
        *,
        progress: Progress = no_progress,
    ) -> TrainingRecord:
        """Train an adapter and leave it in *folder* in PEFT's layout.

        Goes on from the state of an interrupted training with the same arguments.

        Raises:
            BackendError: There is no example, one exceeds the context, or the loss is not finite.
            AdapterError: The model has no layer of one of the recipe's targets.
        """
        if recipe.kind != "lora":
            msg = f"recipe: kind is {recipe.kind!r}, expected 'lora' (all that the cpu backend trains)"
            raise BackendError(msg)
        network = self._open(model)
        encoded = _encode(model, examples, network.context_length)
        lora = new_lora(network.shapes, recipe, self._device)
        trainer = Trainer(
            network,
            lora,
            encoded,
            recipe,
            packing=self._plan.packing,
            pad_id=model.tokenizer.pad_id,
            max_batch_tokens=self._plan.max_batch_tokens,
            products=DTYPES[self._products],
        )
        settings = f"{self._plan.packing} {self._device} {self._dtype} {self._products} {self._lean}"
        identity = identity_of(recipe, encoded, model.fingerprint, settings)
        done = trainer.run(folder, progress=progress, base=model.reference, identity=identity)
        return TrainingRecord(
            backend=self.name,
            device=self._device,
            dtype=self._dtype,
            steps=len(done.losses),
            examples=len(examples),
            tokens=done.tokens,
            seconds=done.seconds,
            loss_start=done.losses[0] if done.losses else 0.0,
            loss_end=done.losses[-1] if done.losses else 0.0,
            losses=tuple(done.losses),
            recall=done.recall,
            peak_memory_mb=peak_memory_mb(),
            parameters=lora.values.numel(),
            versions=self.device().versions,
            checkpoints=tuple(done.checkpoints),
        )

    def load(self, model: Model, adapter: Path | None, *, fused: bool = False) -> CpuGenerator:
        """The model with the adapter of a PEFT-layout folder; the bare model for None.

        All generators of a model share its base weights; *fused* copies the adapted layers.

        Raises:
            AdapterError: The folder has unknown target modules or tensors of other shapes.
        """
        network = self._open(model)
        lora = load_lora(adapter, network.shapes, self._device) if adapter is not None else None
        if lora is not None and fused:
            network, lora = network.merged(lora), None
        return CpuGenerator(network, lora, model.tokenizer, self._plan, drafts=self._drafts)

    def close(self) -> None:
        """Drop base weights. Safe to call twice."""
        self._network = None
        self._fingerprint = ""

    def _open(self, model: Model) -> Network:
        if self._network is None or self._fingerprint != model.fingerprint:
            self.close()
            self._network = open_network(model.folder, device=self._device, dtype=DTYPES[self._dtype], lean=self._lean)
            self._fingerprint = model.fingerprint
        return self._network


class CpuGenerator:
    """A loaded model that completes prompts."""

    def __init__(
        self, network: Network, lora: Lora | None, tokenizer: ChatTokenizer, plan: DecodingPlan, *, drafts: bool
    ) -> None:
        self._network: Network | None = network
        self._lora = lora
        self._tokenizer = tokenizer
        self._plan = plan
        self._drafts = drafts

    def complete(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        drafts: Sequence[str | None] | None = None,
    ) -> list[Completion]:
        """One completion per prompt, in order; drafts change the time taken, never the text.

        Raises:
            BackendError: A prompt plus *max_tokens* exceeds the context, or memory ran out twice.
        """
        guesses = drafts if drafts is not None else [None] * len(prompts)
        rows = [self._row(prompt, guess, settings) for prompt, guess in zip(prompts, guesses, strict=True)]
        self._answer(rows, settings)
        return [self._completion(row) for row in rows]

    def stream(self, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """The completion in pieces of text as tokens arrive, one piece per token (it may be empty)."""
        row = self._row(prompt, None, settings)
        written = ""
        for _ in self._decoder(settings, self._plan).tokens(row):
            text = self._text(row)
            complete = row.stopped or len(row.new) == settings.max_tokens
            # A character may need several tokens: hold its replacement mark back until it is whole.
            shown = text if complete else text.rstrip("\N{REPLACEMENT CHARACTER}")
            piece = shown[len(written) :] if shown.startswith(written) else ""
            written += piece
            yield piece

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Next-token log-probabilities (nats) of each token sequence, each (T, V): row t predicts token t + 1.

        Raises:
            BackendError: A sequence is empty or exceeds the context.
        """
        network = self._open_network()
        for index, sequence in enumerate(sequences):
            if not 0 < len(sequence) <= network.context_length:
                msg = f"sequence {index}: {len(sequence)} tokens, expected 1 to {network.context_length}"
                raise BackendError(msg)
        return read_log_probs(network, self._lora, sequences, self._plan, self._tokenizer.pad_id)

    def close(self) -> None:
        """Give the adapter's memory back. Safe to call twice."""
        self._network = None
        self._lora = None

    def _row(self, prompt: Prompt, draft: str | None, settings: GenerationSettings) -> Row:
        ids = self._tokenizer.encode_prompt(prompt)
        context = self._open_network().context_length
        if len(ids) + settings.max_tokens > context:
            msg = (
                f"prompt {prompt.user[:40]!r}: {len(ids)} tokens + {settings.max_tokens} new, "
                f"expected at most {context} together"
            )
            raise BackendError(msg)
        row = Row(ids, random=row_random(settings, ids))
        if draft is not None and self._drafts and row.random is None and not settings.ignore_eos:
            drafted, start = self._tokenizer.encode_example(prompt, draft)
            row.draft = drafted[start:][: settings.max_tokens]
        return row

    def _answer(self, rows: Sequence[Row], settings: GenerationSettings) -> None:
        """Answer all rows; with half the batch once memory ran out.

        Raises:
            BackendError: Memory ran out twice.
        """
        try:
            self._decoder(settings, self._plan).run(rows)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            half = replace(self._plan, max_batch_tokens=self._plan.max_batch_tokens // 2)
            for row in rows:
                row.new, row.stopped = [], False
                row.random = row_random(settings, row.prompt)
            try:
                self._decoder(settings, half).run(rows)
            except (RuntimeError, MemoryError) as again:
                if not _is_out_of_memory(again):
                    raise
                msg = (
                    f"answering {len(rows)} prompts: memory ran out with {self._plan.max_batch_tokens} tokens in a "
                    f"batch and with {half.max_batch_tokens}, expected max_batch_tokens to fit"
                )
                raise BackendError(msg) from again

    def _decoder(self, settings: GenerationSettings, plan: DecodingPlan) -> Decoder:
        return Decoder(
            self._open_network(),
            self._lora,
            settings,
            stop_ids=self._tokenizer.stop_ids,
            pad_id=self._tokenizer.pad_id,
            plan=plan,
        )

    def _completion(self, row: Row) -> Completion:
        return Completion(
            text=self._text(row),
            prompt_tokens=len(row.prompt),
            completion_tokens=len(row.new),
            stop_reason="stop" if row.stopped else "length",
            seconds=row.seconds,
        )

    def _text(self, row: Row) -> str:
        return self._tokenizer.decode(row.new[:-1] if row.stopped else row.new)

    def _open_network(self) -> Network:
        if self._network is None:
            raise BackendError("generator: used after close, expected a new one from load")
        return self._network


def _encode(model: Model, examples: Sequence[TrainingExample], context: int) -> list[Encoded]:
    if not examples:
        raise BackendError("training: no examples, expected at least one")
    encoded = []
    for example in examples:
        ids, start = model.tokenizer.encode_example(example.prompt, example.answer)
        if len(ids) > context:
            msg = f"example {example.prompt.user[:40]!r}: {len(ids)} tokens, expected at most {context}"
            raise BackendError(msg)
        encoded.append(Encoded(tuple(ids), start))
    return encoded


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
