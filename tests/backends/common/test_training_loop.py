"""The training loop over a learner that computes nothing: what is done with losses, gradients, recall and states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_bench.backends.common import training_loop
from engram_bench.backends.common.training_loop import STATE_FILE, Trainer
from engram_bench.errors import BackendError
from engram_bench.models.encoding import Encoded
from engram_bench.records import Recipe
from engram_bench.records.training_log import TrainingLog
from engram_bench.system.progress import no_progress

RECIPE = Recipe(
    steps=6, batch_size=2, learning_rate=0.1, warmup_steps=0, schedule="constant", min_recall=1.0, max_grad_norm=1.0
)
EXAMPLES = [Encoded((1, 10 + index, 20 + index), 1) for index in range(4)]
"""Of two answer tokens each."""


class FakeLearner:
    """Halves every loss of an example at each step that takes it."""

    def __init__(self, examples: Sequence[Encoded] = EXAMPLES, *, first: float = 1.0, norm: float = 0.5) -> None:
        self.examples = examples
        self.worst = np.full(len(examples), first, dtype=np.float32)  # each example's first token has half of it
        self.norm = norm
        self.wrong: set[int] = set()  # examples whose last token is guessed wrongly
        self.fits_in = 100
        self.calls: list[tuple[Any, ...]] = []
        self.taken: list[int] = []

    def passes(self, members: Sequence[int], max_tokens: int) -> list[list[int]]:
        size = max(1, max_tokens // 3)
        return [list(members[start : start + size]) for start in range(0, len(members), size)]

    def keep_references(self, ordinary: Sequence[int]) -> None:
        self.calls.append(("references", *ordinary))

    def begin(self) -> None:
        self.taken = []

    def accumulate(
        self, learned: Sequence[int], ordinary: Sequence[int], *, scale: float, anchor_scale: float, step: int
    ) -> tuple[NDArray[np.float32], int]:
        if 3 * (len(learned) + len(ordinary)) > self.fits_in:
            raise MemoryError
        self.calls.append(("accumulate", len(learned), len(ordinary), scale, anchor_scale))
        self.taken += learned
        return self.losses(learned), 3 * (len(learned) + len(ordinary))

    def gradient_norm(self) -> float:
        return self.norm

    def move(self, learning_rate: float, clip: float) -> None:
        self.calls.append(("move", learning_rate, clip))
        self.worst[self.taken] /= 2

    def losses(self, members: Sequence[int]) -> NDArray[np.float32]:
        return np.array([part for i in members for part in (self.worst[i] / 2, self.worst[i])], dtype=np.float32)

    def guesses(self, members: Sequence[int]) -> NDArray[np.int64]:
        self.calls.append(("guesses", *members))
        return np.array([t for i in members for t in (10 + i, -1 if i in self.wrong else 20 + i)], dtype=np.int64)

    def save(self, folder: Path, base: str) -> None:
        (folder / "adapter.txt").write_text(f"{base} {self.worst.tolist()}")

    def state(self) -> Mapping[str, NDArray[Any]]:
        return {"worst": self.worst}

    def resume(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.worst = state["worst"].copy()

    def calls_of(self, name: str) -> list[tuple[Any, ...]]:
        return [tuple(rest) for called, *rest in self.calls if called == name]


def train(
    learner: FakeLearner,
    folder: Path,
    recipe: Recipe = RECIPE,
    *,
    required: Sequence[int] = (),
    num_ordinary: int = 0,
    progress: Callable[[str, int, int, str], None] = no_progress,
    identity: str = "this",
    answer: Callable[[Sequence[int]], Sequence[Encoded]] | None = None,
) -> TrainingLog:
    num_learned = len(learner.examples) - num_ordinary
    trainer = Trainer(
        learner,
        learner.examples[:num_learned],
        recipe,
        required=required,
        ordinary=learner.examples[num_learned:],
        answer=answer,
        max_tokens=100,
    )
    return trainer.run(folder, progress=progress, base="base", identity=identity)


def test_a_step_says_the_mean_loss_of_its_answer_tokens(tmp_path: Path) -> None:
    done = train(FakeLearner(first=8.0), tmp_path)

    assert done.losses[0] == pytest.approx((4 + 8) / 2)
    assert done.tokens == len(done.losses) * 2 * 3


def test_training_ends_once_every_example_is_recalled(tmp_path: Path) -> None:
    done = train(FakeLearner(first=1.0), tmp_path)

    assert (len(done.losses), done.recall, done.finished) == (2 + 2, 1.0, True)


@pytest.mark.parametrize(("required", "finished"), [((0,), True), ((3,), False)], ids=["known", "not-known"])
def test_training_goes_on_until_every_required_example_is_recalled(
    tmp_path: Path, required: tuple[int, ...], finished: bool
) -> None:
    learner = FakeLearner()
    learner.worst[3] = 1e6

    done = train(learner, tmp_path, replace(RECIPE, min_recall=0.75), required=required)

    assert (done.finished, done.recall) == (finished, 0.75)


def test_a_training_of_fixed_steps_ends_with_what_it_recalls(tmp_path: Path) -> None:
    learner = FakeLearner(first=1e6)
    learner.worst[0] = 0.1

    done = train(learner, tmp_path, replace(RECIPE, stop_at_recall=False))

    assert (len(done.losses), done.recall, done.finished) == (6, 0.25, False)


def test_no_steps_recall_nothing_and_leave_an_adapter(tmp_path: Path) -> None:
    done = train(FakeLearner(), tmp_path, replace(RECIPE, steps=0))

    assert (done.losses, done.recall) == ([], None)
    assert (tmp_path / "adapter.txt").read_text() == "base [1.0, 1.0, 1.0, 1.0]"


@pytest.mark.parametrize(
    ("worst", "asked"), [(0.6, []), (1.5, [(0, 1, 2, 3)]), (2.5, [])], ids=["known", "unsettled", "hopeless"]
)
def test_only_answers_that_their_losses_leave_open_are_guessed(
    tmp_path: Path, worst: float, asked: list[tuple[int, ...]]
) -> None:
    learner = FakeLearner(first=2 * worst)  # one step that takes all of them halves it

    train(learner, tmp_path, replace(RECIPE, steps=1, batch_size=4, stop_at_recall=False))

    assert learner.calls_of("guesses") == asked


def test_one_wrong_token_is_an_answer_not_recalled(tmp_path: Path) -> None:
    learner = FakeLearner(first=3.0)
    learner.wrong = {2}

    done = train(learner, tmp_path, replace(RECIPE, steps=1, batch_size=4, stop_at_recall=False))

    assert done.recall == 0.75


@pytest.mark.parametrize(("norm", "clip"), [(0.5, 1.0), (4.0, 0.25)], ids=["short", "long"])
def test_gradients_longer_than_the_recipe_allows_are_clipped(tmp_path: Path, norm: float, clip: float) -> None:
    learner = FakeLearner(norm=norm)

    train(learner, tmp_path, replace(RECIPE, steps=1))

    assert learner.calls_of("move") == [(0.1, clip)]


def test_steps_become_smaller_with_what_is_left_to_learn(tmp_path: Path) -> None:
    learner = FakeLearner(first=1.0)

    train(learner, tmp_path)

    rates = [rate for rate, _ in learner.calls_of("move")]
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] < rates[0]


def test_a_gradient_that_is_not_finite_names_the_step_and_moves_nothing(tmp_path: Path) -> None:
    learner = FakeLearner(norm=float("nan"))

    with pytest.raises(BackendError, match=r"step 1 has loss 0\.75 and gradient norm nan, expected finite values"):
        train(learner, tmp_path)
    assert learner.calls_of("move") == []


def test_references_of_ordinary_prompts_are_kept_first_and_weigh_as_the_recipe_says(tmp_path: Path) -> None:
    learner = FakeLearner([*EXAMPLES, *EXAMPLES[:2]])

    train(learner, tmp_path, replace(RECIPE, steps=1, replay=1, replay_weight=3.0), num_ordinary=2)

    assert learner.calls[0] == ("references", 4, 5)
    assert learner.calls_of("accumulate") == [(2, 1, 1 / 4, 3.0 / 2)]


def test_passes_stay_half_as_large_once_memory_ran_out(tmp_path: Path) -> None:
    learner = FakeLearner()
    learner.fits_in = 6

    train(learner, tmp_path, replace(RECIPE, steps=2, batch_size=4, stop_at_recall=False))

    assert [learned for learned, *_ in learner.calls_of("accumulate")] == [2, 2] * 2


def interrupt_at_step_4(stage: str, done: int, total: int, note: str) -> None:
    if done == 4:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("identity", "left"), [("this", [4, 5, 6]), ("another", [1, 2, 3, 4, 5, 6])], ids=["same", "another"]
)
def test_an_interrupted_training_goes_on_if_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: str, left: list[int]
) -> None:
    monkeypatch.setattr(training_loop, "STATE_EVERY_S", 0.0)
    fixed = replace(RECIPE, stop_at_recall=False)
    with pytest.raises(KeyboardInterrupt):
        train(FakeLearner(), tmp_path, fixed, progress=interrupt_at_step_4)
    steps: list[int] = []

    done = train(FakeLearner(), tmp_path, fixed, identity=identity, progress=lambda _, step, *__: steps.append(step))

    assert steps == left
    assert len(done.losses) == 6
    assert (tmp_path / "adapter.txt").read_text() == "base [0.125, 0.125, 0.125, 0.125]"


def test_a_finished_training_leaves_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_loop, "STATE_EVERY_S", 0.0)

    train(FakeLearner(), tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["adapter.txt"]


@pytest.mark.parametrize("content", [b"", b"no safetensors at all"], ids=["empty", "torn"])
def test_a_broken_state_starts_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE_FILE).write_bytes(content)

    assert len(train(FakeLearner(), tmp_path, replace(RECIPE, stop_at_recall=False)).losses) == 6


def test_checkpoints_are_saved_after_their_steps(tmp_path: Path) -> None:
    done = train(FakeLearner(), tmp_path, replace(RECIPE, stop_at_recall=False, checkpoints=2))

    assert done.checkpoints == ["checkpoints/step-000003", "checkpoints/step-000006"]
    assert (tmp_path / done.checkpoints[1] / "adapter.txt").read_text() == (tmp_path / "adapter.txt").read_text()


def test_ordinary_prompts_are_answered_a_few_steps_before_they_are_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, "ANSWERED_AHEAD", 2)
    examples, asked = [Encoded((1, 10 + index, 20 + index), 1) for index in range(14)], list[list[int]]()

    def answer(indices: Sequence[int]) -> list[Encoded]:
        asked.append(list(indices))
        return [examples[index] for index in indices]

    learner = FakeLearner(examples)
    fixed = replace(RECIPE, replay=2, steps=5, stop_at_recall=False)
    train(learner, tmp_path, fixed, num_ordinary=10, answer=answer)

    kept = [index for called in learner.calls_of("references") for index in called]
    assert [len(indices) for indices in asked] == [4, 4, 2]  # of steps 1 and 2, 3 and 4, 5
    assert sorted(kept) == sorted(index for indices in asked for index in indices) == list(range(4, 14))
    order = [name for name, *_ in learner.calls if name in ("references", "move")]
    assert order == ["references", "move", "move", "references", "move", "move", "references", "move"]


def test_a_training_that_ends_early_asks_for_no_more_answers(tmp_path: Path) -> None:
    asked = list[int]()
    examples = [Encoded((1, 10 + index, 20 + index), 1) for index in range(104)]

    def answer(indices: Sequence[int]) -> list[Encoded]:
        asked.extend(indices)
        return [examples[index] for index in indices]

    done = train(FakeLearner(examples), tmp_path, replace(RECIPE, replay=2, steps=60), num_ordinary=100, answer=answer)

    assert (len(done.losses), len(asked)) == (4, 16)
