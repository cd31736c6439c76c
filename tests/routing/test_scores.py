"""What a session's router is fitted on and what becomes of its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engram_bench.backends.fake import FakeBackend, fake_model
from engram_bench.inference.store import CompletionStore
from engram_bench.memory.query import Query, prompt_query
from engram_bench.records import Case, CaseResult, Completion, Prompt, Score, SourceLine, Split
from engram_bench.routing.router import Router
from engram_bench.routing.scores import StoredScorer, open_scorer, route_measures

MODEL: Any = fake_model("fake")
TRAINED = [Prompt("Port of SSH?"), Prompt("Port of FTP?")]


@dataclass
class Length:
    """Scores a question by its length."""

    ordinary: Sequence[float] = (1.0, 2.0, 9.0)
    fingerprint: str = "length"
    asked: list[int] = field(default_factory=list)

    def scores(self, queries: Sequence[Query]) -> list[float]:
        self.asked.append(len(queries))
        return [float(sum(query.content)) for query in queries]


def row(text: str, split: Split) -> CaseResult:
    case = Case(text, text, "facts", Prompt(text), ("a",), "exact", split, "c", SourceLine("f.yaml", 1))
    return CaseResult(case, "baseline", Completion("a", 1, 1, "stop", 0.0), Score("passed"))


def test_a_question_is_scored_once(tmp_path: Path) -> None:
    scorer = Length()
    queries = [prompt_query(MODEL.tokenizer, prompt) for prompt in TRAINED]
    for _ in range(2):
        store = CompletionStore(tmp_path / "store.sqlite")
        assert StoredScorer(scorer, store, "fake").scores(queries) == [12.0, 12.0]
        store.close()

    assert scorer.asked == [2]


def test_recall_is_of_held_out_wordings_and_precision_counts_controls() -> None:
    rows = [row("A long wording", "held_out"), row("Short", "held_out"), row("A long control", "control")]
    rows += [row("A seen prompt, which counts for neither", "seen")]

    recall, precision = route_measures(Router(MODEL.tokenizer, Length()), rows)

    assert recall.candidate is not None
    assert precision.candidate is not None
    assert (recall.name, recall.candidate.passed, recall.candidate.n) == ("router_recall", 1, 2)
    assert (precision.name, precision.candidate.passed, precision.candidate.n) == ("router_precision", 1, 2)
    assert recall.note.startswith("1 of 1 controls reach the adapter; the threshold 9 lets 2 %")


def test_nothing_is_said_of_a_router_that_was_asked_neither() -> None:
    assert route_measures(Router(MODEL.tokenizer, Length()), [row("A seen prompt", "seen")]) == ()


def test_what_was_fitted_is_read_from_the_folder(tmp_path: Path) -> None:
    first = open_scorer("state", MODEL, TRAINED, backend=FakeBackend, folder=tmp_path)

    def refuse() -> Any:
        raise AssertionError("no model is needed")

    again = open_scorer("state", MODEL, TRAINED, backend=refuse, folder=tmp_path)
    other = open_scorer("state", MODEL, TRAINED[:1], backend=FakeBackend, folder=tmp_path)

    assert again.fingerprint == first.fingerprint
    assert other.fingerprint != first.fingerprint
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_written_costs_a_fit(tmp_path: Path) -> None:
    scorer = open_scorer("state", MODEL, TRAINED, backend=FakeBackend, folder=tmp_path / "nowhere")

    assert len(scorer.ordinary) == 120
