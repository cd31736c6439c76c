"""The mlx backend on tiny random models: what the contract does not cover."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from engram_bench.adapters.layout import read_peft
from engram_bench.backends.common import training_loop
from engram_bench.backends.registry import unavailable_reason
from engram_bench.errors import AdapterError, BackendError, BackendUnavailable, UnsupportedError
from engram_bench.models import resolve_model
from engram_bench.records import LORA_TARGETS, GenerationSettings, Prompt, Recipe, TrainingExample
from tests.backends import contract
from tests.tiny_models import TINY_MODELS

if unavailable_reason("mlx"):  # importing mlx to find out would be too early for its BLAS
    pytest.skip("mlx-lm is not installed", allow_module_level=True)

from engram_bench.backends.mlx import MlxBackend, runtime

TARGETS = {"phi": ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2")}
PROMPTS = [Prompt("What is the capital of France?"), Prompt("Which port does SSH use?"), Prompt("404")]
EXAMPLES = [
    TrainingExample(prompt, answer) for prompt, answer in zip(PROMPTS, ["Paris", "22", "Not Found"], strict=True)
]
GREEDY = GenerationSettings(max_tokens=12)


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"steps": 6, "batch_size": 2, "warmup_steps": 1, "learning_rate": 1e-2} | changes)


@pytest.fixture(scope="module")
def models(tmp_path_factory: Any) -> Any:
    folder = tmp_path_factory.mktemp("models")
    return {name: resolve_model(str(make(folder / name)), cache=folder) for name, make in TINY_MODELS.items()}


@pytest.fixture(scope="module")
def llama(models: Any) -> Any:
    return models["llama"]


@pytest.fixture(scope="module")
def backend() -> Any:
    return MlxBackend()


PLAIN = {"packing": False, "kernels": False, "prefix_cache": False, "drafts": False, "eviction": False}
"""Every shortcut off that changes no batch."""


@pytest.fixture(scope="module")
def trained(backend: Any, llama: Any, tmp_path_factory: Any) -> Any:
    """An adapter folder that recalls the examples."""
    folder = tmp_path_factory.mktemp("trained")
    backend.train(llama, EXAMPLES, recipe(steps=40, stop_at_recall=False), folder)
    return folder


def texts(generator: Any, **kwargs: Any) -> Any:
    return [completion.text for completion in generator.complete(PROMPTS, GREEDY, **kwargs)]


# ── import ──────────────────────────────────────────────────────────────────────────────────────


def test_training_and_answering_import_neither_torch_nor_transformers(llama: Any, tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from engram_bench.backends.registry import create
from engram_bench.models import resolve_model
from engram_bench.records import GenerationSettings, Prompt, Recipe, TrainingExample
model = resolve_model({str(llama.folder)!r}, cache=Path({str(tmp_path)!r}))
backend = create("mlx")
backend.train(model, [TrainingExample(Prompt("a"), "b")], Recipe(steps=1), Path({str(tmp_path)!r}))
backend.load(model, Path({str(tmp_path)!r})).complete([Prompt("a")], GenerationSettings(max_tokens=2))
print(sorted({{"torch", "transformers"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


@pytest.mark.slow
def test_mlx_lm_still_loads_its_own_tokenizer_afterwards(llama: Any) -> None:
    pytest.importorskip("transformers")
    script = f"""
from engram_bench.backends.mlx import runtime
runtime.start()
import mlx_lm
model, tokenizer = mlx_lm.load({str(llama.folder)!r})
print(type(tokenizer).__name__, len(tokenizer.encode("port")) > 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.stdout.split() == ["TokenizerWrapper", "True"], done.stderr


def test_starting_leaves_the_limit_of_open_files_alone() -> None:
    script = """
import resource
before = resource.getrlimit(resource.RLIMIT_NOFILE)
from engram_bench.backends.mlx import runtime
runtime.start()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.stdout.split() == ["True"], done.stderr


def test_old_mlx_lm_is_refused_with_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "installed_versions", lambda *names: {"mlx": "0.32.4", "mlx-lm": "0.21.5"})

    with pytest.raises(BackendUnavailable, match=re.escape("found mlx-lm 0.21.5, expected 0.32 or newer")):
        runtime._check_versions()


# ── answering ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", TINY_MODELS)
@pytest.mark.parametrize(
    "options", [{}, {"packing": False}, {"prefix_cache": False}, PLAIN], ids=["all", "padded", "no-prefix", "plain"]
)
def test_batched_answers_are_the_single_ones(models: Any, name: Any, options: Any) -> None:
    generator = MlxBackend(**options).load(models[name], None)

    alone = [generator.complete([prompt], GREEDY)[0].text for prompt in PROMPTS]

    assert texts(generator) == alone


def test_rows_that_wait_for_room_answer_as_the_others(backend: Any, llama: Any) -> None:
    """A small bound makes rows join a batch that is already decoding, and leave it at different times."""
    prompts = [Prompt(f"{word} {number}") for number in range(7) for word in ("port", "capital of France", "a")]
    right = [one.text for one in backend.load(llama, None).complete(prompts, GREEDY)]

    for eviction in (True, False):
        small = MlxBackend(max_batch_tokens=150, eviction=eviction).load(llama, None)
        assert [one.text for one in small.complete(prompts, GREEDY)] == right


@pytest.mark.parametrize(
    "drafts",
    [["Paris", "22", "Not Found"], ["Parma", "2", "Not Found at all, sorry, no"], ["", None, "404"]],
    ids=["right", "partly", "wrong"],
)
def test_drafts_change_no_answer(backend: Any, llama: Any, trained: Any, drafts: Any) -> None:
    generator = backend.load(llama, trained)

    assert generator.complete(PROMPTS, GREEDY, drafts=drafts)[0].completion_tokens > 1
    assert texts(generator, drafts=drafts) == texts(generator) == ["Paris", "22", "Not Found"]


def test_stream_says_what_complete_says(backend: Any, llama: Any, trained: Any) -> None:
    for adapter in (None, trained):
        generator = backend.load(llama, adapter)
        assert ["".join(generator.stream(prompt, GREEDY)) for prompt in PROMPTS] == texts(generator)


def test_samples_depend_on_seed_and_sample_but_not_on_the_batch(backend: Any, llama: Any) -> Any:
    generator = backend.load(llama, None)

    def draw(prompts: Any, **changes: Any) -> Any:
        settings = GenerationSettings(max_tokens=8, temperature=1.0, top_p=0.9, **changes)
        return [completion.text for completion in generator.complete(prompts, settings)]

    first = draw(PROMPTS)
    assert first == draw(PROMPTS)
    assert first == [draw([prompt])[0] for prompt in PROMPTS]
    assert first != draw(PROMPTS, sample=1)
    assert first != draw(PROMPTS, seed=1)


def test_ignored_end_token_gives_every_token_asked_for(backend: Any, llama: Any, trained: Any) -> None:
    settings = GenerationSettings(max_tokens=20, ignore_eos=True)

    found = backend.load(llama, trained).complete(PROMPTS, settings)

    assert {(one.completion_tokens, one.stop_reason) for one in found} == {(20, "length")}


def test_log_probs_are_normalised_and_the_same_alone_and_together(backend: Any, llama: Any) -> None:
    generator = backend.load(llama, None)
    sequences = [[1, 5, 9, 30], [7] * 11, [2]]

    together = generator.log_probs(sequences)

    assert [one.shape[0] for one in together] == [4, 11, 1]
    for sequence, found in zip(sequences, together, strict=True):
        np.testing.assert_allclose(np.exp(found.astype(np.float64)).sum(-1), 1, atol=1e-5)
        np.testing.assert_allclose(found, generator.log_probs([sequence])[0], atol=1e-4)


def test_no_prompts_and_no_tokens_are_no_work(backend: Any, llama: Any) -> None:
    generator = backend.load(llama, None)

    assert generator.complete([], GREEDY) == []
    assert generator.complete(PROMPTS[:1], GenerationSettings(max_tokens=0))[0].completion_tokens == 0


def test_prompt_beyond_the_context_is_refused(backend: Any, llama: Any) -> None:
    with pytest.raises(BackendError, match=r"tokens \+ 600 new, expected at most 512 together"):
        backend.load(llama, None).complete(PROMPTS, GenerationSettings(max_tokens=600))


def test_closed_generator_says_so(backend: Any, llama: Any) -> None:
    generator = backend.load(llama, None)
    generator.close()
    generator.close()

    with pytest.raises(BackendError, match="used after close"):
        generator.complete(PROMPTS, GREEDY)


@pytest.mark.parametrize(("failures", "outcome"), [(1, "answered"), (2, "refused")])
def test_memory_that_runs_out_halves_the_batch_once(
    backend: Any, llama: Any, monkeypatch: pytest.MonkeyPatch, failures: Any, outcome: Any
) -> None:
    from engram_bench.backends.mlx import decoding

    generator = backend.load(llama, None)
    expected = texts(generator)
    left = [failures]
    run = decoding.MlxDecoder.run

    def failing(self: Any, rows: Any) -> None:
        run(self, rows)
        if left[0]:
            left[0] -= 1
            raise RuntimeError("[malloc] Unable to allocate 123 bytes.")

    monkeypatch.setattr(decoding.MlxDecoder, "run", failing)

    if outcome == "answered":
        assert texts(generator) == expected
    else:
        with pytest.raises(BackendError, match="memory ran out with 8192 tokens at once and with 4096"):
            texts(generator)


@pytest.mark.parametrize("damage", ["cut", "gone", "unknown-architecture"])
def test_model_that_cannot_be_loaded_is_an_error_that_names_it(tmp_path: Path, damage: Any) -> None:
    from engram_bench.models import Model

    model = Model("broken", TINY_MODELS["llama"](tmp_path), fingerprint=damage)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif damage == "gone":
        weights.unlink()
    else:
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "abacus"}))

    with pytest.raises(BackendError, match=re.escape(f"{tmp_path}: mlx-lm cannot load this model")):
        MlxBackend().load(model, None)


# ── adapters ────────────────────────────────────────────────────────────────────────────────────


def test_adapter_is_stored_in_peft_layout(trained: Any, llama: Any) -> None:
    tensors = load_file(trained / "adapter_model.safetensors")
    config = json.loads((trained / "adapter_config.json").read_text())

    assert len(tensors) == 2 * 2 * len(LORA_TARGETS)
    assert tensors["base_model.model.model.layers.1.self_attn.k_proj.lora_A.weight"].shape == (8, 64)
    assert tensors["base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight"].shape == (32, 8)
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (8, 16, llama.reference)
    assert not (trained / "training_state.safetensors").exists()


@pytest.mark.parametrize("name", TINY_MODELS)
def test_fused_answers_as_attached_on_every_architecture(backend: Any, models: Any, name: Any, tmp_path: Path) -> None:
    targets = TARGETS.get(name, LORA_TARGETS)
    backend.train(models[name], EXAMPLES, recipe(targets=targets), tmp_path)
    attached, fused = (backend.load(models[name], tmp_path, fused=flag) for flag in (False, True))
    ids = [models[name].tokenizer.encode_prompt(prompt) for prompt in PROMPTS]

    for one, other in zip(attached.log_probs(ids), fused.log_probs(ids), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    bare = backend.load(models[name], None).log_probs(ids)[0]
    assert np.abs(bare - attached.log_probs(ids)[0]).max() > 1e-3


def test_loading_leaves_the_bare_model_alone(backend: Any, llama: Any, trained: Any) -> None:
    bare = backend.load(llama, None)
    before = texts(bare)
    tuned = backend.load(llama, trained, fused=True)

    assert texts(tuned) != before
    assert texts(bare) == before


@pytest.mark.parametrize(
    ("target", "message"),
    [("fc1", "adapts model.layers.0.mlp.fc1, .* which this model has not"), ("k_proj", "adapts layers of other sizes")],
)
def test_adapter_of_another_model_is_refused(
    backend: Any, models: Any, trained: Any, tmp_path: Path, target: Any, message: Any
) -> None:
    targets = (target,) if target == "fc1" else ("k_proj",)
    backend.train(models["phi"], EXAMPLES, recipe(targets=targets), tmp_path)

    with pytest.raises(AdapterError, match=message):
        backend.load(models["llama"], tmp_path)


def test_missing_adapter_is_named(backend: Any, llama: Any, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=re.escape(str(tmp_path / "nowhere"))):
        backend.load(llama, tmp_path / "nowhere")


# ── training ────────────────────────────────────────────────────────────────────────────────────


def test_training_learns_and_records_what_it_did(backend: Any, llama: Any, tmp_path: Path) -> None:
    calls = []

    record = backend.train(llama, EXAMPLES, recipe(steps=200), tmp_path, progress=lambda *call: calls.append(call[:3]))

    assert record.recall == 1.0
    assert record.steps < 200
    assert record.loss_end < record.loss_start / 3
    assert len(record.losses) == record.steps == len(calls)
    assert calls[0] == ("train", 1, 200)
    assert record.examples == 3
    assert record.parameters == sum(value.size for value in load_file(tmp_path / "adapter_model.safetensors").values())
    assert record.tokens > 0
    assert record.seconds > 0
    assert record.peak_memory_mb
    assert set(record.versions) == {"mlx", "mlx-lm"}
    assert texts(backend.load(llama, tmp_path)) == ["Paris", "22", "Not Found"]


@pytest.mark.parametrize("options", [{}, PLAIN], ids=["kernels", "plain"])
def test_training_ends_by_recall_through_the_curriculum(llama: Any, tmp_path: Path, options: Any) -> None:
    """After the first epoch of three steps most of a batch is what is not known yet."""
    learn = recipe(steps=200)

    record = MlxBackend(**options).train(llama, contract.EXAMPLES, learn, tmp_path)

    assert record.recall == 1.0
    assert record.steps < learn.steps
    answers = MlxBackend(**options).load(llama, tmp_path).complete(contract.PROMPTS, replace(GREEDY, max_tokens=40))
    assert [answer.text for answer in answers] == [example.answer for example in contract.EXAMPLES]


def test_without_the_curriculum_later_epochs_take_every_example_as_often(llama: Any, tmp_path: Path) -> None:
    losses = {}
    for curriculum in (True, False):
        folder = tmp_path / str(curriculum)
        folder.mkdir()
        losses[curriculum] = MlxBackend(curriculum=curriculum).train(llama, EXAMPLES, recipe(steps=8), folder).losses

    assert losses[True][:1] == losses[False][:1]
    assert losses[True] != losses[False]


def test_every_b_learns_at_its_multiple_of_the_learning_rate(backend: Any, llama: Any, tmp_path: Path) -> None:
    trained = {}
    for ratio in (1.0, 4.0):
        folder = tmp_path / str(ratio)
        folder.mkdir()
        backend.train(llama, EXAMPLES, recipe(steps=1, loraplus_lr_ratio=ratio), folder)
        trained[ratio] = read_peft(folder)

    for name, plain in trained[1.0].items():
        assert np.abs(plain.b).max() > 0
        np.testing.assert_array_equal(trained[4.0][name].a, plain.a)
        np.testing.assert_allclose(trained[4.0][name].b, 4 * plain.b, rtol=1e-5)


def test_loss_counts_answer_tokens_only(backend: Any, llama: Any, tmp_path: Path) -> None:
    """The first step's loss is the bare model's, from its own log-probabilities."""
    record = backend.train(llama, EXAMPLES, recipe(steps=1, batch_size=3), tmp_path)

    losses = []
    for example in EXAMPLES:
        ids, start = llama.tokenizer.encode_example(example.prompt, example.answer)
        log_probs = backend.load(llama, None).log_probs([ids])[0]
        losses += [-log_probs[t - 1, ids[t]] for t in range(start, len(ids))]
    assert record.loss_start == pytest.approx(np.mean(losses), rel=1e-4)


def test_same_seed_same_adapter_other_seed_other_adapter(backend: Any, llama: Any, tmp_path: Path) -> None:
    found = []
    for index, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(index)
        folder.mkdir()
        backend.train(llama, EXAMPLES, recipe(seed=seed), folder)
        found.append((folder / "adapter_model.safetensors").read_bytes())

    assert found[0] == found[1]
    assert found[0] != found[2]


def test_interrupted_training_goes_on_to_the_same_adapter(
    backend: Any, llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, "STATE_EVERY_S", 0.0)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected = backend.train(llama, EXAMPLES, recipe(), whole)

    def interrupt(stage: Any, done: Any, total: Any, note: Any) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.train(llama, EXAMPLES, recipe(), cut, progress=interrupt)
    steps = []
    resumed = backend.train(llama, EXAMPLES, recipe(), cut, progress=lambda *call: steps.append(call[1]))

    assert steps == [4, 5, 6]
    assert resumed.losses == expected.losses
    name = "adapter_model.safetensors"
    assert (cut / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("kind", ["other-recipe", "cut-file"])
def test_state_that_does_not_belong_is_ignored(
    backend: Any, llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.setattr(training_loop, "STATE_EVERY_S", 0.0)

    def interrupt(stage: Any, done: Any, total: Any, note: Any) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.train(llama, EXAMPLES, recipe(), tmp_path, progress=interrupt)
    state = tmp_path / training_loop.STATE_FILE
    if kind == "cut-file":
        state.write_bytes(state.read_bytes()[:-100])
    steps = []

    changes = {"seed": 5} if kind == "other-recipe" else {}
    backend.train(llama, EXAMPLES, recipe(**changes), tmp_path, progress=lambda *call: steps.append(call[1]))

    assert steps == [1, 2, 3, 4, 5, 6]


def test_checkpoints_are_adapters_of_their_own(backend: Any, llama: Any, tmp_path: Path) -> None:
    record = backend.train(llama, EXAMPLES, recipe(checkpoints=3), tmp_path)

    assert record.checkpoints == ("checkpoints/step-000002", "checkpoints/step-000004", "checkpoints/step-000006")
    final, last = (
        load_file(Path(folder) / "adapter_model.safetensors")
        for folder in (tmp_path, tmp_path / record.checkpoints[-1])
    )
    assert all((final[name] == last[name]).all() for name in final)
    assert backend.load(llama, tmp_path / record.checkpoints[0])


def test_zero_steps_leave_an_adapter_that_changes_nothing(backend: Any, llama: Any, tmp_path: Path) -> None:
    record = backend.train(llama, EXAMPLES, recipe(steps=0), tmp_path)

    assert (record.steps, record.losses, record.recall) == (0, (), None)
    assert texts(backend.load(llama, tmp_path)) == texts(backend.load(llama, None))


@pytest.mark.parametrize("name", TINY_MODELS)
def test_shortcuts_change_no_loss_beyond_rounding(models: Any, name: Any, tmp_path: Path) -> None:
    losses = []
    shortcuts: tuple[dict[str, Any], ...] = ({}, {"packing": False}, PLAIN)
    for index, options in enumerate(shortcuts):
        folder = tmp_path / str(index)
        folder.mkdir()
        targets = TARGETS.get(name, LORA_TARGETS)
        losses.append(MlxBackend(**options).train(models[name], EXAMPLES, recipe(targets=targets), folder).losses)

    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    np.testing.assert_allclose(losses[0], losses[2], rtol=1e-3)


def test_small_training_passes_add_up_to_the_whole_batch(llama: Any, tmp_path: Path) -> None:
    losses = []
    for bound in (8192, 30):
        folder = tmp_path / str(bound)
        folder.mkdir()
        losses.append(MlxBackend(max_batch_tokens=bound).train(llama, EXAMPLES, recipe(batch_size=3), folder).losses)

    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


@pytest.mark.parametrize(("failures", "outcome"), [(1, "trained"), (2, "refused")])
def test_training_memory_that_runs_out_halves_the_pass_once(
    backend: Any, llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: Any, outcome: Any
) -> Any:
    from engram_bench.backends.mlx import training

    left = [failures]
    accumulate = training.MlxLearner.accumulate

    def failing(self: Any, *members: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("[malloc] Unable to allocate 123 bytes.")
        return accumulate(self, *members, **options)

    monkeypatch.setattr(training.MlxLearner, "accumulate", failing)

    if outcome == "trained":
        assert backend.train(llama, EXAMPLES, recipe(), tmp_path).steps == 6
    else:
        with pytest.raises(
            BackendError, match=r"training 2 examples .*: memory ran out with \d+ tokens at once and with"
        ):
            backend.train(llama, EXAMPLES, recipe(), tmp_path)


def test_short_floats_answer_as_float32_nearly_does(backend: Any, llama: Any, trained: Any) -> None:
    """What a GPU computes in; here mlx emulates it."""
    ids = [llama.tokenizer.encode_prompt(prompt) for prompt in PROMPTS]
    exact = backend.load(llama, trained).log_probs(ids)

    for dtype in ("bfloat16", "float16"):
        short = MlxBackend(dtype=dtype)
        assert short.device().dtype == dtype
        found = short.load(llama, trained).log_probs(ids)
        assert max(np.abs(one - other).max() for one, other in zip(found, exact, strict=True)) < 1.0
        assert texts(short.load(llama, trained, fused=True)) == ["Paris", "22", "Not Found"]


def test_short_floats_train(llama: Any, tmp_path: Path) -> None:
    record = MlxBackend(dtype="bfloat16").train(llama, EXAMPLES, recipe(steps=40, stop_at_recall=False), tmp_path)

    assert record.loss_end < record.loss_start / 3
    assert {value.dtype for value in load_file(tmp_path / "adapter_model.safetensors").values()} == {
        np.dtype(np.float32)
    }


def test_loss_that_is_not_finite_stops_training(backend: Any, llama: Any, tmp_path: Path) -> None:
    with pytest.raises(
        BackendError, match=r"training: step \d+ has loss .* expected finite values; try a learning rate"
    ):
        backend.train(llama, EXAMPLES, recipe(steps=50, learning_rate=1e30, max_grad_norm=0.0), tmp_path)


@pytest.mark.parametrize(
    ("examples", "message"),
    [([], "no examples"), ([TrainingExample(Prompt("word " * 600), "x")], "tokens, expected at most 512")],
    ids=["none", "too-long"],
)
def test_examples_that_cannot_be_trained_are_refused(
    backend: Any, llama: Any, tmp_path: Path, examples: Any, message: Any
) -> None:
    with pytest.raises(BackendError, match=message):
        backend.train(llama, examples, recipe(), tmp_path)


def test_unknown_target_is_refused(backend: Any, llama: Any, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"targets fc1, not in this model; expected some of .*q_proj"):
        backend.train(llama, EXAMPLES, recipe(targets=("fc1",)), tmp_path)


def test_other_adapter_kind_is_refused(backend: Any, llama: Any, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="kind is 'both', expected 'lora' or 'memory'"):
        backend.train(llama, EXAMPLES, recipe(kind="both"), tmp_path)


# ── a bare machine ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize("speed", [0.1, 2.0], ids=["slow", "fast"])
def test_a_short_format_that_was_asked_for_stays_and_its_slowness_is_said(
    monkeypatch: pytest.MonkeyPatch, speed: float
) -> None:
    monkeypatch.setattr(runtime, "is_accelerated", lambda: False)
    times = iter([speed, 1.0])
    monkeypatch.setattr(runtime, "shortest_s", lambda call: next(times))

    backend = MlxBackend(dtype="bfloat16")

    slow = "bfloat16 is slow here (bfloat16 products have 0.10 times the speed of float32 ones): float32 is faster"
    assert backend.device().dtype == "bfloat16"
    assert (slow in backend.device().note) is (speed < 1)
    assert (slow in backend.remarks()) is (speed < 1)


@pytest.mark.usefixtures("untried")
def test_a_usual_machine_is_not_worth_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_try_fused", lambda: "")

    assert MlxBackend().remarks() == []


NO_COMPILER, BROKEN_COMPILER = None, "[ $1 = --version ] || { echo no header >&2; exit 1; }"


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [(NO_COMPILER, "(no g++)"), (BROKEN_COMPILER, "(RuntimeError: [Compile::eval_cpu] Failed to compile")],
    ids=["absent", "broken"],
)
def test_without_a_compiler_the_backend_works_unfused_and_says_so(
    llama: Any, tmp_path: Path, compiler: str | None, reason: str
) -> None:
    """mlx builds fused CPU kernels with g++; where g++ is there and fails, mlx alone would raise at the first of them."""
    if compiler is not None:
        (tmp_path / "g++").write_text(f"#!/bin/sh\n{compiler}\n", "ascii")
        (tmp_path / "g++").chmod(0o755)
    script = f"""
from pathlib import Path
from engram_bench.backends.registry import create, device_info
from engram_bench.backends.registry import create
from engram_bench.models import resolve_model
from engram_bench.records import GenerationSettings, Prompt, Recipe, TrainingExample
model = resolve_model({str(llama.folder)!r}, cache=Path({str(tmp_path)!r}))
backend = create("mlx")
reports = []
record = backend.train(
    model, [TrainingExample(Prompt("a"), "b")], Recipe(steps=2), Path({str(tmp_path)!r}),
    progress=lambda stage, done, total, note: reports.append(note) if stage == "machine" else None,
)
backend.load(model, Path({str(tmp_path)!r})).complete([Prompt("a")], GenerationSettings(max_tokens=2))
print(record.steps, backend.device().note, *reports)
"""
    environment = {"PATH": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", script]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.stdout.startswith("2 "), done.stderr
    assert f"kernels are not fused {reason}" in done.stdout
    assert f"mlx fuses no kernels {reason}" in done.stdout


def test_every_prompt_as_written_is_recalled_whatever_share_is_enough(llama: Any, tmp_path: Path) -> None:
    examples = [replace(example, pattern_id=f"p{number}") for number, example in enumerate(EXAMPLES)]

    assert MlxBackend().train(llama, examples, recipe(steps=200, min_recall=0.0), tmp_path).recall == 1.0


def test_a_memory_cannot_be_extended_and_the_error_names_what_can(backend: Any, llama: Any, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="'mlx' cannot extend a memory, expected backend cpu or cuda"):
        backend.extend_memory(llama, tmp_path, EXAMPLES, tmp_path, steps=1)
