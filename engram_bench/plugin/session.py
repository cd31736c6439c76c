"""One process's session: the pattern files, the selected items, and the candidates that these are about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import pytest

from engram_bench.errors import PatternFileError
from engram_bench.patterns.leaks import HeldOut
from engram_bench.plugin.candidate import CandidateSession
from engram_bench.plugin.files import PatternFiles, load_conftests
from engram_bench.plugin.items import candidate_name, tasks_of
from engram_bench.plugin.parts import part
from engram_bench.plugin.refusal import asked_by_users, has_suite
from engram_bench.records import PatternSet, TrainingExample
from engram_bench.session.settings import Settings
from engram_bench.session.shared import Shared

if TYPE_CHECKING:
    from engram_bench.session.bench import Bench


class BenchSession:
    """What the plugin knows in one process; models are loaded when the first answer is missing."""

    def __init__(self, config: pytest.Config, settings: Settings, session: str) -> None:
        self.config = config
        self.settings = settings
        self.files = PatternFiles(config.rootpath, settings.patterns, partial(load_conftests, config))
        self.items: Sequence[pytest.Item] = ()
        """The selected items, once collection is over."""
        self.leak_lines: list[str] = []
        """Lines on the selected held-out wordings, once collection is over."""
        self._session = session
        self._shared = Shared()
        self._latest: CandidateSession | None = None

    @cached_property
    def candidates(self) -> dict[str, CandidateSession]:
        """The candidates to test by name; one without a name where none is named."""
        return {
            name: CandidateSession(settings, self.open_bench, partial(self.items_of, name))
            for name, settings in self.settings.chosen.items()
        }

    def of(self, name: str = "") -> CandidateSession:
        """The candidate of this name, or the first one. The adapter of the candidate that was asked before is closed."""
        found = self.candidates.get(name) or next(iter(self.candidates.values()))
        if self._latest is not None and self._latest is not found:
            self._latest.rest()
        self._latest = found
        return found

    @property
    def bench(self) -> Bench:
        """The bench of the first candidate."""
        return self.of().bench

    def open_bench(self, settings: Settings) -> Bench:
        """A bench over the files trained on, which shares models, base weights and stores with the session's others."""
        made: Bench = part("bench")(self.config, settings, self.files.training_sets(), self._session, self._shared)
        return made

    def items_of(self, name: str) -> list[pytest.Item]:
        """The selected items that are about the candidate of this name; those about none count to the first one."""
        first = next(iter(self.candidates))
        return [item for item in self.items if (candidate_name(item) or first) == name]

    def select(self, items: Sequence[pytest.Item]) -> None:
        """Take the selected items, and check their held-out wordings before anything is asked.

        Where one of them is a test of the user that asks the candidate, the configured files are trained on.

        Raises:
            PatternFileError: A held-out wording is, normalised, the prompt of a training example; lists them all.
        """
        self.items = items
        if asked_by_users(items) & {"candidate", "adapter"}:
            self.files.train_configured()
            self.files.check_across()
        if not self.files.has_held_out:
            return  # without a look at every case
        selected = {
            case.id for item in items for task in tasks_of(item) for case in task.cases if case.split == "held_out"
        }
        if selected:
            self._check_leaks(selected)

    def check_early(self) -> None:
        """Raise the first error that the selected items are sure to meet, before a model is loaded.

        Raises:
            EngramBenchError: See ``Bench.check``; it names the candidate where several are named.
        """
        for name, candidate in self.candidates.items():
            items = self.items_of(name)
            asked = asked_by_users(items)
            if has_suite(items) or asked:
                candidate.bench.check(has_adapter=has_suite(items) or asked != {"baseline"})

    def asks_for(self, test: str) -> bool:
        """Whether the command line names this test: ``-m NAME`` or a node id."""
        names = [
            *re.findall(r"\w+", self.config.option.markexpr),
            *re.findall(r"test_(\w+)", " ".join(self.config.args)),
        ]
        return test in names

    def close(self) -> None:
        """Close adapters, models and stores."""
        for candidate in self.candidates.values():
            candidate.rest()
        self._shared.close()

    def _check_leaks(self, selected: set[str]) -> None:
        """Compare the selected held-out wordings with the examples of each candidate, and keep the lines on the most examples.

        Candidates of one kind train on the same examples.
        """
        sets = self.files.training_sets()
        examples = {id(found): found for each in self.candidates.values() if (found := each.bench.tuning.examples)}
        for found in sorted(examples.values(), key=len) or [()]:
            self.leak_lines = leak_lines(sets, selected, found)


def leak_lines(sets: Sequence[PatternSet], selected: set[str], examples: Sequence[TrainingExample]) -> list[str]:
    """Lines that say how near the selected held-out wordings come to the training examples.

    Args:
        sets: Pattern sets that are trained on.
        selected: Ids of the selected cases with held-out wordings, at least one.
        examples: Training examples.

    Raises:
        PatternFileError: A held-out wording is, normalised, the prompt of a training example; lists them all.
    """
    held_out = HeldOut(sets)
    if found := held_out.leaks(examples):
        raise PatternFileError("held-out wordings", [str(leak) for leak in found])
    near = [leak for leak in held_out.near_duplicates(examples) if leak.case_id in selected]
    lines = [
        f"engram-bench: none of {len(selected)} held-out wordings is among the {len(examples)} training examples, "
        f"{len(near) or 'no'} near-duplicate{'s' * (len(near) != 1)}"
    ]
    return lines + [f"  near-duplicate: {leak}" for leak in near]
