"""The bench, its respondents and their lifetimes, on the fake backend."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engram_bench.adapters.layout import LoraUpdate, write_peft
from engram_bench.adapters.store import Adapter
from engram_bench.backends import registry
from engram_bench.backends.fake import FakeBackend, FakeGenerator
from engram_bench.patterns.expand import accuracy_cases
from engram_bench.patterns.load import load_pattern_file
from engram_bench.records import Recipe
from engram_bench.routing.generator import RoutedGenerator
from engram_bench.session.bench import COMPARED, Bench, evaluate
from engram_bench.session.reading import read_settings
from engram_bench.session.settings import FORMS
from tests.conftest import TWO_FACTS

MakeBench = Callable[..., Bench]
Knows = Callable[[dict[str, object]], None]


@pytest.fixture
def knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Knows:
    """Lets the bare model answer these prompts; see the fake backend for the knobs."""
    path = tmp_path / "knows.json"
    monkeypatch.setenv("ENGRAM_FAKE_BASELINE", str(path))

    def know(answers: dict[str, object]) -> None:
        path.write_text(json.dumps(answers), "utf-8")

    return know


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[MakeBench]:
    """Benches over two patterns in one project; flags are given without ``engram_``."""
    path = tmp_path / "facts.yaml"
    path.write_text(TWO_FACTS, "utf-8")
    made: list[Bench] = []

    def make(**flags: object) -> Bench:
        given = {f"engram_{name}": value for name, value in {"backend": "fake", "steps": "3", **flags}.items()}
        settings = read_settings(given, {}, root=tmp_path, cwd=tmp_path)
        made.append(Bench(settings, (load_pattern_file(path),), tmp_path / "cache"))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def test_the_bench_has_at_most_20_members(make_bench: MakeBench) -> None:
    members = {name for name in vars(Bench) if not name.startswith("__")} | vars(make_bench()).keys()

    assert len(members) <= 20


def test_without_an_adapter_every_side_is_the_bare_model(make_bench: MakeBench) -> None:
    respondents = make_bench(adapter="none").respondents

    assert respondents.of("candidate") is respondents.of("fused") is respondents.bare


@pytest.mark.parametrize("flags", [{}, {"route": "keys"}], ids=["always", "routed"])
def test_each_respondent_has_an_identity_of_its_own(make_bench: MakeBench, flags: dict[str, str]) -> None:
    respondents = make_bench(**flags).respondents

    found = [
        respondents.bare,
        respondents.of("candidate"),
        *map(respondents.as_form, ("fused", "merged", "peft", "mlx")),
    ]

    assert len({each.identity for each in found}) == len(found)


def test_a_timed_respondent_answers_under_the_same_identity(make_bench: MakeBench) -> None:
    respondents = make_bench(route="keys").respondents

    assert respondents.of("candidate", is_timed=True).identity == respondents.of("candidate").identity


def test_a_checkpoint_of_a_routed_adapter_is_routed(make_bench: MakeBench) -> None:
    bench = make_bench(route="keys")
    adapter = bench.tuning.adapter
    assert isinstance(adapter, Adapter)

    checkpoint = bench.respondents.checkpoint(adapter)

    assert checkpoint.identity == bench.respondents.of("candidate").identity
    assert isinstance(checkpoint.open(), RoutedGenerator)


def test_benches_of_a_session_share_models_backends_and_stores(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FakeBackend] = []

    class Counted(FakeBackend):
        def __init__(self) -> None:
            made.append(self)

    monkeypatch.setattr(registry, "create", lambda *_, **__: Counted())
    bench = make_bench(no_cache=True)
    questions = bench.questions(accuracy_cases(bench.sets[0]))
    for flags in ({}, {"seed": "1"}, {"kind": "memory"}, {"adapter": "none"}):
        with bench.under(make_bench(no_cache=True, **flags).settings) as other:
            for side in COMPARED:
                other.answer(questions, side)

    assert len(made) == 1
    assert other.engine.model is bench.engine.model
    assert other.engine.store is bench.engine.store


def test_closing_a_bench_that_shares_leaves_the_shared_parts_open(make_bench: MakeBench) -> None:
    bench = make_bench(no_cache=True)
    with bench.under(make_bench(adapter="none", no_cache=True).settings) as other:
        folder = other.engine.store.path.parent

    assert folder.exists()
    bench.close()
    assert not folder.exists()


def test_of_many_base_models_the_first_and_one_other_are_held(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    monkeypatch.setattr(FakeBackend, "close", lambda self: events.append("closed"))
    shared = make_bench().engine.shared

    first = shared.backend("a", FakeBackend)
    second = shared.backend("b", FakeBackend)
    assert (shared.backend("a", FakeBackend), shared.backend("b", FakeBackend)) == (first, second)
    assert events == []
    shared.backend("c", FakeBackend)
    assert events == ["closed"]
    assert shared.backend("a", FakeBackend) is first
    assert shared.backend("b", FakeBackend) is not second
    assert events == ["closed"] * 2


def test_an_adapter_is_freed_before_the_next_candidate_is_asked(
    make_bench: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[weakref.ref[object]] = []
    load = FakeBackend.load

    def followed(self: FakeBackend, model: object, adapter: Path | None, *, fused: bool = False) -> FakeGenerator:
        generator = load(self, model, adapter, fused=fused)
        opened.extend([weakref.ref(generator)] if adapter else [])
        return generator

    monkeypatch.setattr(FakeBackend, "load", followed)
    tables = "".join(f"[candidates.c{seed}]\nseed = {seed}\nform = 'fused'\n" for seed in range(50))
    (tmp_path / "engram.toml").write_text(tables, "utf-8")
    session = make_bench(no_cache=True)
    questions = session.questions(accuracy_cases(session.sets[0]))
    benches = [session.under(settings) for settings in session.settings.chosen.values()]
    held = []
    for bench in benches:
        bench.answer(questions, "candidate")
        held.append(sum(each() is not None for each in opened))
        bench.close()

    assert held == [1] * 50
    assert all(each() is None for each in opened)


def test_candidates_of_one_seed_share_their_examples(make_bench: MakeBench) -> None:
    one = make_bench(candidate=["a=fast", "b=fast"])
    a, b = (one.under(settings) for settings in one.settings.chosen.values())

    assert a.tuning.examples is b.tuning.examples


def test_a_candidate_that_is_a_model_is_compared_with_the_sessions_model(make_bench: MakeBench, knows: Knows) -> None:
    knows({"Port of SSH?": "22", "__models__": {"fake/other": {"HTTP status code for 'Not Found'?": "404"}}})
    bench = make_bench(candidate=["other=fake/other"], samples="0")

    run = evaluate(bench)

    assert (run.candidate, run.provenance.model, run.baseline_model) == ("other", "fake/other", "fake")
    passed = {(row.side, row.case.pattern_id): row.score.passed for row in run.results if row.test == "accuracy"}
    assert passed == {
        ("baseline", "http-404"): False,
        ("baseline", "port-ssh"): True,
        ("candidate", "http-404"): True,
        ("candidate", "port-ssh"): False,
    }


@pytest.mark.parametrize("form", FORMS)
def test_a_candidate_in_another_form_is_asked_in_that_form(make_bench: MakeBench, tmp_path: Path, form: str) -> None:
    (tmp_path / "engram.toml").write_text(f"[candidates.it]\nform = '{form}'\n", "utf-8")
    respondents = make_bench().respondents

    asked = respondents.of("candidate").identity
    expected = respondents.of("fused") if form == "fused" else respondents.as_form(form)
    assert (asked == expected.identity) == (form != "attached")


def test_closing_deletes_the_scratch_folder(make_bench: MakeBench) -> None:
    bench = make_bench(no_cache=True)
    folder = bench.engine.store.path.parent
    assert folder.exists()

    bench.close()

    assert not folder.exists()


def test_closing_a_bench_that_did_nothing_loads_nothing(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engram_bench.backends.registry.create", lambda *_, **__: pytest.fail("a backend was made"))

    make_bench().close()


def test_adapter_is_found_by_the_name_it_is_stored_under(make_bench: MakeBench) -> None:
    trained = make_bench().tuning.adapter
    assert trained is not None

    found = make_bench(adapter=trained.name).tuning.adapter

    assert found is not None
    assert (found.path, found.fingerprint) == (trained.path, trained.fingerprint)


@pytest.mark.parametrize(
    ("changes", "note"),
    [({}, ""), ({"use_dora": True}, "use_dora is True: PEFT itself computes the adapter, exactly and more slowly")],
    ids=["plain", "dora"],
)
def test_run_says_where_a_library_computes_the_adapter(
    make_bench: MakeBench, tmp_path: Path, changes: dict[str, object], note: str
) -> None:
    update = LoraUpdate(np.ones((2, 4), np.float32), np.ones((4, 2), np.float32), 2.0)
    write_peft(tmp_path, {"model.layers.0.self_attn.q_proj": update}, Recipe(rank=2, alpha=4.0), base="org/model")
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    provenance = make_bench(adapter=str(tmp_path)).run().provenance

    assert provenance.adapter_note == note


def test_own_adapter_and_bare_model_have_no_note(make_bench: MakeBench) -> None:
    assert make_bench().run().provenance.adapter_note == ""
    assert make_bench(adapter="none").run().provenance.adapter_note == ""
