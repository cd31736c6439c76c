"""The settings of a session, or of one of its candidates, as values that are read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

OF_LENGTH = ("num_train_epochs", "steps_per_example")
"""Fields of a recipe that change the number of steps."""
ATTACHED = "attached"
"""Form of an adapter that stands beside the base weights as it was trained."""
FORMS = (ATTACHED, "fused", "merged", "peft", "mlx")
"""Forms in which an adapter can be asked: attached, or a form of ``forms.FORMS``."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of one session or of one candidate, read and checked; the help texts of the options document the fields."""

    backend: str
    model: str
    adapter: str
    adapter_dir: Path
    kind: str
    recipe: Mapping[str, Any]
    """Fields that the user's recipe sets, by their names in a recipe file."""
    route: str
    route_false_positives: float
    load_in_4bit: bool
    server_url: str
    baseline_model: str
    candidate_model: str
    server_concurrency: int
    server_timeout: float
    retrain: bool
    patterns: tuple[Path, ...]
    items: str
    gate: tuple[str, ...]
    gate_only: bool
    report_dir: Path
    steps: int | None
    """None where nobody set it: the recipe's usual number, which grows with the examples."""
    seed: int
    max_tokens: int
    max_reasoning_tokens: int | None
    max_batch_tokens: int | None
    plain: tuple[str, ...]
    no_cache: bool
    limit: int | None
    samples: int
    null_control: bool
    sweep: bool
    checkpoints: int
    temperature: float
    show: str
    compare: str
    speed_rounds: int | None
    speed_budget: int
    candidate: str = ""
    """Name that the user gave the candidate; empty where none is named."""
    recipe_name: str = ""
    """Preset or file of the recipe, as the user wrote it; empty for the project's own and for the default recipe."""
    sampling_seed: int | None = None
    """Seed of sampled answers, the same for all candidates; None takes the seed of training."""
    form: str = ATTACHED
    """Form in which the adapter is asked: attached, or one of ``forms.FORMS``."""
    baseline: Settings | None = None
    """Settings of the bare model that a candidate is compared with; None takes the candidate's own bare model."""
    candidates: Mapping[str, Settings] = field(default_factory=dict)
    """Every named candidate by name, in the user's order; empty where none is named."""
    only: tuple[str, ...] = ()
    """Names of the candidates to test; empty tests all."""
    seeds: int = 1
    """Number of seeds under which each recipe is trained."""
    recipe_of: str = ""
    """Candidate whose recipe is trained under several seeds, of which this is one; empty for any other candidate."""

    @property
    def asked_seed(self) -> int:
        """Seed with which questions are put, so that every candidate is asked the same ones."""
        return self.seed if self.sampling_seed is None else self.sampling_seed

    @property
    def chosen(self) -> dict[str, Settings]:
        """The candidates to test by name, at least one; these settings under an empty name where none is named."""
        chosen = {
            name: each
            for name, each in self.candidates.items()
            if not self.only or {name, each.recipe_of} & {*self.only}
        }
        return chosen or {self.candidate: self}

    @property
    def names(self) -> tuple[str, ...]:
        """Names that gates may address where several candidates are tested; a recipe under several seeds has one."""
        return names_of(self.chosen)

    @property
    def has_many(self) -> bool:
        """Whether more than one candidate is named, so that tests and reports say which one they are about."""
        return len(self.candidates) > 1

    @property
    def by_field(self) -> dict[str, Any]:
        """Values by field name: a backend takes those it has a use for."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def names_of(chosen: Mapping[str, Settings]) -> tuple[str, ...]:
    """Names that gates may address among these candidates; none where there is only one."""
    names = dict.fromkeys(each.recipe_of or name for name, each in chosen.items())
    return tuple(names) if len(chosen) > 1 else ()
