"""What every backend must do: subclass :class:`BackendContract`, give it a backend and a model, and the tests run.

class TestFakeBackend(BackendContract):
    @classmethod
    def make_backend(cls):
        return FakeBackend()

    @classmethod
    def make_model(cls, folder):
        return fake_model("fake")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from safetensors.numpy import load_file

from engram_bench.backends.protocol import Backend, Generator
from engram_bench.errors import AdapterError, BackendError
from engram_bench.records import Completion, GenerationSettings, Prompt, Recipe, TrainingExample, TrainingRecord

EXAMPLES = tuple(
    TrainingExample(Prompt(question), answer)
    for question, answer in (
        ("HTTP status code for 'Not Found'?", "404"),
        ("Which port does SSH use?", "22"),
        ("Capital of France?", "Paris"),
        ("for-loop over items with index?", "for i, item in enumerate(items):"),
        ("What is the status of a page that moved?", "301"),
        ("Hi", "hello"),
    )
)
PROMPTS = [example.prompt for example in EXAMPLES]
Answered = list[tuple[Generator, list[Completion]]]
Dtype = Literal["auto", "float32", "bfloat16"]
SHORT = GenerationSettings(max_tokens=12)


@dataclass(frozen=True)
class TrainedAdapter:
    """Adapter that the class trained, with the progress reports."""

    folder: Path
    record: TrainingRecord
    reports: list[tuple[str, int, int, str]]


class BackendContract:
    """Rules of :mod:`engram_bench.backends.protocol`, one test each."""

    recipe: ClassVar[Recipe] = Recipe(rank=8, steps=80, batch_size=4, learning_rate=1e-2, warmup_steps=5)
    """Recipe with which a tiny model learns all examples."""
    dtypes: ClassVar[tuple[Dtype, ...]] = ("float32", "bfloat16")
    """Data types that a recipe may ask for."""

    @classmethod
    def make_backend(cls) -> Backend:
        """A new backend."""
        raise NotImplementedError

    @classmethod
    def make_model(cls, folder: Path) -> Any:
        """A model whose files are made in *folder*, which is empty."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls) -> Backend:
        return cls.make_backend()

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> Any:
        return cls.make_model(tmp_path_factory.mktemp("model"))

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, backend: Backend, model: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainedAdapter:
        folder = tmp_path_factory.mktemp("adapter")
        reports: list[tuple[str, int, int, str]] = []
        record = backend.train(model, EXAMPLES, cls.recipe, folder, progress=lambda *report: reports.append(report))
        return TrainedAdapter(folder, record, reports)

    @pytest.fixture(scope="class")
    @classmethod
    def answered(cls, backend: Backend, model: Any, trained: TrainedAdapter) -> Answered:
        """The bare model and the tuned one, each with its completions of all prompts in one batch."""
        generators = [backend.load(model, adapter) for adapter in (None, trained.folder)]
        return [(generator, generator.complete(PROMPTS, SHORT)) for generator in generators]

    # ── training ────────────────────────────────────────────────────────────────────────────────

    def test_a_trained_adapter_gives_the_trained_answers(
        self, backend: Backend, model: Any, trained: TrainedAdapter
    ) -> None:
        answers = texts(backend.load(model, trained.folder).complete(PROMPTS, replace(SHORT, max_tokens=40)))

        assert answers == [example.answer for example in EXAMPLES]

    def test_the_record_says_what_was_done(self, trained: TrainedAdapter) -> None:
        record = trained.record

        assert 0 < record.steps <= self.recipe.steps
        assert record.examples == len(EXAMPLES)
        assert record.tokens > 0
        assert record.loss_end < record.loss_start
        assert (record.losses[0], record.losses[-1]) == (record.loss_start, record.loss_end)
        assert record.recall == 1.0
        assert record.examples_seen == record.steps * self.recipe.batch_size
        assert (record.examples_per_s > 0) == (record.tokens_per_s > 0) == (record.seconds > 0)

    def test_every_step_is_reported_in_order(self, trained: TrainedAdapter) -> None:
        steps = [(stage, done, total) for stage, done, total, _ in trained.reports if stage == "train"]

        assert steps == [("train", step + 1, self.recipe.steps) for step in range(trained.record.steps)]
        assert all("loss" in note for stage, _, _, note in trained.reports if stage == "train")

    def test_the_same_seed_gives_the_same_adapter_bytes(
        self, backend: Backend, model: Any, trained: TrainedAdapter, tmp_path: Path
    ) -> None:
        backend.train(model, EXAMPLES, self.recipe, tmp_path)

        assert weights_of(tmp_path) == weights_of(trained.folder)

    def test_another_seed_gives_another_adapter(
        self, backend: Backend, model: Any, trained: TrainedAdapter, tmp_path: Path
    ) -> None:
        backend.train(model, EXAMPLES, replace(self.recipe, seed=7, steps=3), tmp_path)

        assert weights_of(tmp_path) != weights_of(trained.folder)

    def test_a_recipe_of_some_blocks_trains_those_alone(self, backend: Backend, model: Any, tmp_path: Path) -> None:
        recipe = replace(self.recipe, steps=2, layers="last 1", use_rslora=True, schedule="linear")
        backend.train(model, EXAMPLES, recipe, tmp_path)

        blocks = {name.partition(".layers.")[2].partition(".")[0] for name in trained_layers(tmp_path)}
        assert len(blocks) == 1
        assert texts(backend.load(model, tmp_path).complete(PROMPTS, SHORT))

    def test_dropout_changes_what_is_learned_and_repeats(self, backend: Backend, model: Any, tmp_path: Path) -> None:
        recipe = replace(self.recipe, steps=2)
        found = []
        for number, rate in enumerate((0.5, 0.5, 0.0)):
            (tmp_path / str(number)).mkdir()
            backend.train(model, EXAMPLES, replace(recipe, lora_dropout=rate), tmp_path / str(number))
            found.append(weights_of(tmp_path / str(number)))

        assert found[0] == found[1]
        assert found[0] != found[2]

    def test_a_recipe_chooses_the_data_type_of_training(self, backend: Backend, model: Any, tmp_path: Path) -> None:
        recipe, own, found = replace(self.recipe, steps=2), backend.device().dtype, {}
        every: tuple[Dtype, ...] = ("auto", *self.dtypes)
        for dtype in every:
            (tmp_path / dtype).mkdir()
            record = backend.train(model, EXAMPLES, replace(recipe, dtype=dtype), tmp_path / dtype)
            found[dtype] = (record.dtype.partition(",")[0], weights_of(tmp_path / dtype))

        assert found["auto"][0] == own
        for dtype in self.dtypes:
            assert found[dtype][0] == dtype
            assert (found[dtype][1] == found["auto"][1]) is (dtype == own)
            assert texts(backend.load(model, tmp_path / dtype).complete(PROMPTS, SHORT))

    def test_an_adapter_of_no_steps_answers_as_the_bare_model(
        self, backend: Backend, model: Any, tmp_path: Path
    ) -> None:
        backend.train(model, EXAMPLES, replace(self.recipe, steps=0), tmp_path)

        untrained = texts(backend.load(model, tmp_path).complete(PROMPTS, SHORT))
        assert untrained == texts(backend.load(model, None).complete(PROMPTS, SHORT))

    # ── adapters ────────────────────────────────────────────────────────────────────────────────

    def test_a_missing_adapter_is_an_error_that_names_the_path(
        self, backend: Backend, model: Any, tmp_path: Path
    ) -> None:
        with pytest.raises(AdapterError, match="nowhere"):
            backend.load(model, tmp_path / "nowhere")

    def test_both_sides_answer_in_turn_without_disturbing_each_other(self, answered: Answered) -> None:
        (bare, before), (tuned, tuned_answers) = answered

        assert texts(bare.complete(PROMPTS, SHORT)) == texts(before)
        assert texts(tuned.complete(PROMPTS, SHORT)) == texts(tuned_answers)
        assert texts(before) != texts(tuned_answers)

    def test_fused_answers_as_attached(
        self, backend: Backend, model: Any, trained: TrainedAdapter, answered: Answered
    ) -> None:
        _, (_, attached) = answered
        fused = backend.load(model, trained.folder, fused=True).complete(PROMPTS, SHORT)
        bare_after = backend.load(model, None).complete(PROMPTS, SHORT)

        assert texts(fused) == texts(attached)
        assert texts(bare_after) != texts(fused)

    # ── answering ───────────────────────────────────────────────────────────────────────────────

    def test_a_batch_answers_as_single_prompts_in_order(self, answered: Answered) -> None:
        for generator, together in answered:
            single = [generator.complete([prompt], SHORT)[0] for prompt in PROMPTS]

            assert without_seconds(together) == without_seconds(single)

    def test_counts_and_stop_reasons_are_right(self, backend: Backend, model: Any, trained: TrainedAdapter) -> None:
        tokenizer = model.tokenizer
        generator = backend.load(model, trained.folder)

        whole = generator.complete(PROMPTS, replace(SHORT, max_tokens=40))
        cut = generator.complete(PROMPTS, replace(SHORT, max_tokens=1))

        for example, completion in zip(EXAMPLES, whole, strict=True):
            ids, start = tokenizer.encode_example(example.prompt, example.answer)
            assert completion.prompt_tokens == start
            assert (completion.stop_reason, completion.completion_tokens) == ("stop", len(ids) - start)
        assert [(completion.stop_reason, completion.completion_tokens) for completion in cut] == [("length", 1)] * 6
        assert all(completion.seconds >= 0 for completion in whole)

    def test_a_prompt_is_trained_and_asked_with_the_same_tokens(self, model: Any) -> None:
        for example in EXAMPLES:
            ids, start = model.tokenizer.encode_example(example.prompt, example.answer)
            assert ids[:start] == model.tokenizer.encode_prompt(example.prompt)

    @pytest.mark.parametrize(
        "draft_of",
        [
            lambda answer: answer,
            lambda answer: answer[:2],
            lambda answer: answer + " and more",
            lambda answer: "something else altogether",
            lambda answer: "",
            lambda answer: None,
        ],
        ids=["right", "too-short", "too-long", "wrong", "empty", "none"],
    )
    def test_drafts_do_not_change_a_completion(self, answered: Answered, draft_of: Callable[[str], str | None]) -> None:
        for generator, plain in answered:
            drafts = [draft_of(completion.text) for completion in plain]

            assert without_seconds(generator.complete(PROMPTS, SHORT, drafts=drafts)) == without_seconds(plain)

    def test_the_stream_is_the_completion_in_pieces(self, answered: Answered) -> None:
        for generator, completions in answered:
            for completion, prompt in zip(completions, PROMPTS, strict=True):
                assert "".join(generator.stream(prompt, SHORT)) == completion.text

    def test_ignoring_the_end_token_gives_exactly_max_tokens(
        self, backend: Backend, model: Any, trained: TrainedAdapter
    ) -> None:
        generator = backend.load(model, trained.folder)

        completions = generator.complete(PROMPTS, replace(SHORT, max_tokens=20, ignore_eos=True))

        assert [(each.completion_tokens, each.stop_reason) for each in completions] == [(20, "length")] * 6

    def test_a_sample_is_repeatable_and_independent_of_its_batch(self, backend: Backend, model: Any) -> None:
        generator = backend.load(model, None)
        settings = replace(SHORT, temperature=1.0, top_p=0.95, seed=3)

        together = without_seconds(generator.complete(PROMPTS, settings))

        assert without_seconds(generator.complete(PROMPTS, settings)) == together
        assert without_seconds([generator.complete([prompt], settings)[0] for prompt in PROMPTS]) == together

    def test_a_prompt_longer_than_the_context_is_an_error_that_quotes_it(self, backend: Backend, model: Any) -> None:
        prompt = Prompt("once upon a time " + "and then " * model.context_length)

        with pytest.raises(BackendError, match=r"once upon a time .* tokens"):
            backend.load(model, None).complete([prompt], SHORT)

    def test_an_example_longer_than_the_context_is_an_error_that_quotes_it(
        self, backend: Backend, model: Any, tmp_path: Path
    ) -> None:
        example = TrainingExample(Prompt("once upon a time " + "and then " * model.context_length), "yes")

        with pytest.raises(BackendError, match=r"once upon a time .* tokens"):
            backend.train(model, [example], self.recipe, tmp_path)

    def test_no_prompts_give_no_completions(self, backend: Backend, model: Any) -> None:
        assert backend.load(model, None).complete([], SHORT) == []

    def test_log_probs_are_distributions_that_agree_with_greedy_answers(
        self, backend: Backend, model: Any, trained: TrainedAdapter
    ) -> None:
        tokenizer = model.tokenizer
        sequences = [tokenizer.encode_example(example.prompt, example.answer) for example in EXAMPLES]

        rows = backend.load(model, trained.folder).log_probs([ids for ids, _ in sequences])

        for (ids, start), log_probs in zip(sequences, rows, strict=True):
            assert log_probs.shape[0] == len(ids)
            np.testing.assert_allclose(np.exp(log_probs.astype(np.float64)).sum(-1), 1.0, atol=1e-4)
            assert log_probs[start - 1 : -1].argmax(-1).tolist() == ids[start:]

    def test_states_are_of_the_bare_model_and_of_each_sequence_alone(
        self, backend: Backend, model: Any, trained: TrainedAdapter
    ) -> None:
        sequences = [model.tokenizer.encode_prompt(prompt) for prompt in PROMPTS]

        together = backend.states(model, sequences, depth=0.8)

        assert together.shape[0] == len(sequences)
        for index, sequence in enumerate(sequences):
            alone = backend.states(model, [sequence], depth=0.8)[0]
            np.testing.assert_allclose(together[index], alone, atol=1e-3, rtol=1e-3)
        assert len({tuple(state) for state in together.round(3).tolist()}) == len(sequences)

    def test_closing_twice_is_fine(self, backend: Backend, model: Any) -> None:
        generator = backend.load(model, None)

        generator.close()
        generator.close()

    def test_the_device_says_which_backend_and_versions(self, backend: Backend) -> None:
        info = backend.device()

        assert info.backend == backend.name
        assert info.device
        assert info.dtype


def texts(completions: list[Completion]) -> list[str]:
    return [completion.text for completion in completions]


def without_seconds(completions: list[Completion]) -> list[Completion]:
    """The completions without their times, which may differ between two ways to the same answer."""
    return [replace(completion, seconds=0.0) for completion in completions]


def trained_layers(folder: Path) -> list[str]:
    """Names of the tensors of an adapter."""
    return sorted(load_file(folder / "adapter_model.safetensors"))


def weights_of(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()
