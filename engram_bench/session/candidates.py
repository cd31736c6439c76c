"""The settings of each candidate: those of the session, with what the user wrote for the candidate on top.

A candidate with an adapter is compared with the bare model that the adapter belongs to. A candidate that is a model itself
(another base model, a merged folder, a server's model) is compared with the bare model of the session.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engram_bench.adapters.kinds import requested_kind
from engram_bench.backends.registry import is_evaluation_only
from engram_bench.errors import UsageError
from engram_bench.session.candidate_file import chosen_names, declared_candidates
from engram_bench.session.option import PREFIX
from engram_bench.session.options import OPTIONS
from engram_bench.session.recipe_fields import PRESETS
from engram_bench.session.recipe_file import changed_fields, checked_fields, read_recipe
from engram_bench.session.settings import ATTACHED, OF_LENGTH, Settings
from engram_bench.system.files import expanded

UNNAMED = "recipe"
"""Name of the recipe that is trained under several seeds where no candidate is named."""
OF_TRAINING = ("recipe", "kind", "steps", "set")
"""Keys that only a candidate has a use for whose adapter is trained."""


@dataclass(frozen=True, slots=True)
class Session:
    """What the candidates of a session start from."""

    settings: Settings
    """Settings of the session, without its candidates."""
    given: Collection[str] = ()
    """Fields that a flag or an ini key sets; these stand above every recipe."""
    changes: Sequence[str] = ()
    """Values of the option ``set``."""
    root: Path = Path()
    """Folder of the project's files."""
    prefix: str = PREFIX
    """Prefix of the options in messages."""


def with_candidates(session: Session, texts: Sequence[str], only: Sequence[str], *, base: Path) -> Settings:
    """The session's settings with every candidate; where one alone is tested, the settings are those of that candidate.

    Args:
        session: What the candidates start from.
        texts: Values of the option ``candidate``.
        only: Values of the option ``only``.
        base: Folder that paths of these texts start from.

    Raises:
        UsageError: A candidate cannot be read, two have one name, or no candidate has a name in *only*.
    """
    declared = declared_candidates(texts, session.settings, root=session.root, base=base, prefix=session.prefix)
    candidates = {
        name: replace(candidate_settings(session, each.fields, base=each.base, source=each.source), candidate=name)
        for name, each in declared.items()
    }
    if session.settings.seeds > 1:
        candidates = under_seeds(candidates or {UNNAMED: session.settings}, f"{session.prefix}seeds")
    known = dict.fromkeys(name for key, each in candidates.items() for name in (each.recipe_of, key) if name)
    chosen = chosen_names(only, known, f"{session.prefix}only")
    whole = replace(session.settings, candidates=candidates, only=chosen)
    first, *others = whole.chosen.values()
    return whole if others else replace(first, candidates=candidates, only=chosen)


def under_seeds(candidates: Mapping[str, Settings], option: str) -> dict[str, Settings]:
    """The candidates, each whose adapter is trained here once for every seed, as ``NAME.sSEED``.

    Args:
        candidates: Settings of each candidate by name.
        option: Name of the option, for messages.

    Raises:
        UsageError: No candidate is trained, or one already has the name of a seed.
    """
    found: dict[str, Settings] = {}
    for name, each in candidates.items():
        seeds = range(each.seed, each.seed + each.seeds) if _is_trained(each) else ()
        own = {f"{name}.s{seed}": _under_seed(each, name, seed) for seed in seeds} or {name: each}
        if clash := next((key for key in own if key in found or (key != name and key in candidates)), ""):
            msg = f"{option}: the name {clash!r} is taken by a candidate, expected another name for that one"
            raise UsageError(msg)
        found |= own
    if not any(each.recipe_of for each in found.values()):
        msg = f"{option}: no candidate is trained here, expected a recipe to train under several seeds"
        raise UsageError(msg)
    return found


def _is_trained(settings: Settings) -> bool:
    is_served = settings.backend != "auto" and is_evaluation_only(settings.backend)
    return settings.adapter == "auto" and not is_served


def _under_seed(recipe: Settings, name: str, seed: int) -> Settings:
    asked = recipe.asked_seed
    return replace(recipe, seed=seed, sampling_seed=asked, candidate=f"{name}.s{seed}", recipe_of=name)


def candidate_settings(
    session: Session, fields: Mapping[str, Any], *, base: Path = Path(), source: str = ""
) -> Settings:
    """The settings of one candidate.

    Args:
        session: What the candidate starts from.
        fields: Keys of ``candidate_file.KEYS`` with checked values.
        base: Folder that the candidate's paths start from.
        source: File and table, or option, that names the candidate, for messages.

    Raises:
        UsageError: Two keys make no sense together, or the recipe cannot be read.
    """
    shared = session.settings
    backend = fields.get("backend", shared.backend)
    is_served = backend != "auto" and is_evaluation_only(backend)
    own = {key: fields[key] for key in ("backend", "route", "form", "seed") if key in fields}
    own["sampling_seed"] = shared.asked_seed
    if is_served:
        return _served(shared, {**fields}, own, source)
    adapter, model = _adapter(fields, shared, base), _path_or_name(fields.get("model", shared.model), base)
    _check_together(fields, adapter, source)
    if adapter != "auto":
        is_other = adapter == "none" and (model, backend) != (shared.model, shared.backend)
        return replace(
            shared,
            **{**own, "adapter": adapter, "model": model, "sweep": False, "baseline": shared if is_other else None},
        )
    trained = _trained(session, fields, base, source)
    settings = replace(shared, **{**trained, **own, "adapter": adapter, "model": model})
    kind, preset = requested_kind(settings.kind)
    try:
        kind.recipe(settings, preset)
    except UsageError as error:
        msg = f"{source}: {error}"
        raise UsageError(msg) from error
    if settings.form != ATTACHED and kind.has_memory:
        msg = f"{source}: form {settings.form!r} of kind {kind.name!r}, expected {ATTACHED}: a memory has no other form"
        raise UsageError(msg)
    return settings


def _adapter(fields: Mapping[str, Any], shared: Settings, base: Path) -> str:
    """The adapter of a candidate: its own; a trained one where a key of training is set; none for another model."""
    if "adapter" in fields:
        return str(_path_or_name(fields["adapter"], base))
    if any(key in fields for key in OF_TRAINING):
        return "auto"
    return "none" if "model" in fields else shared.adapter


def _path_or_name(text: str, base: Path) -> str:
    """The path that a text stands for where something is there; any other text stays as it is."""
    path = base / expanded(text)
    return str(path) if text not in ("auto", "none") and path.exists() else text


def _check_together(fields: Mapping[str, Any], adapter: str, source: str) -> None:
    unused = [key for key in OF_TRAINING if key in fields] if adapter != "auto" else []
    if unused:
        msg = f"{source}: {unused[0]} beside adapter {adapter!r}, which is not trained, expected one of them"
        raise UsageError(msg)
    if adapter == "none" and (key := next((key for key in ("form", "route") if key in fields), "")):
        msg = f"{source}: {key} without an adapter, expected it beside an adapter or a recipe"
        raise UsageError(msg)


def _served(shared: Settings, fields: dict[str, Any], own: Mapping[str, Any], source: str) -> Settings:
    """The settings of a model that a server has: beside its baseline there, or beside the session's own bare model."""
    if unused := sorted(fields.keys() - {"backend", "model", "seed", "adapter"}):
        msg = f"{source}: {unused[0]} beside backend {fields.get('backend', shared.backend)!r}, which trains nothing"
        raise UsageError(msg)
    is_session = shared.backend != "auto" and is_evaluation_only(shared.backend)
    if fields.get("adapter") == "none":
        return replace(shared, **{**own, "adapter": "none"})
    model = fields.get("model", shared.candidate_model)
    if not model:
        msg = f"{source}: no model, expected the name of one that the server has"
        raise UsageError(msg)
    if is_session:
        return replace(shared, **{**own, "candidate_model": model})
    names = {"baseline_model": model, "candidate_model": model}
    return replace(shared, **{**own, **names, "adapter": "none", "sweep": False, "baseline": shared})


def _trained(session: Session, fields: Mapping[str, Any], base: Path, source: str) -> dict[str, Any]:
    """The fields of Settings that decide a candidate's training.

    The candidate's own keys stand above the session's flags and ini keys, these above every recipe. Fields of the session's
    recipe that the candidate's kind has no use for are left out; the candidate's own must be of use.
    """
    shared, changes = session.settings, fields.get("set", {})
    where = f"{source}: set"
    mine = checked_fields(changes if isinstance(changes, Mapping) else changed_fields(changes, where), where)
    preset = PRESETS[mine.pop("preset", "default")]
    if "recipe" in fields:
        own = read_recipe(fields["recipe"], (), root=session.root, base=base) | dict(preset)
        inherited = read_recipe("default", session.changes, root=session.root, base=base, prefix=session.prefix)
        usual = {option.field: option.read(None, None) for option in OPTIONS}
    else:
        own, inherited, usual = dict(preset), dict(shared.recipe), shared.by_field
    recipe = {**own, **inherited, **mine}

    def decided(name: str) -> Any:
        if name in fields:
            return fields[name]
        return shared.by_field[name] if name in session.given else recipe.get(name, usual[name])

    kind = decided("kind")
    usable = requested_kind(kind)[0].usable(dict(inherited))
    recipe = {name: value for name, value in recipe.items() if name in {**own, **mine} or name in usable}
    if "steps" in fields or "steps" in session.given:
        recipe = {name: value for name, value in recipe.items() if name not in OF_LENGTH}
    elif "steps" in mine:
        recipe.pop("steps_per_example", None)
    return {
        "kind": kind,
        "steps": decided("steps"),
        "seed": decided("seed"),
        "recipe": recipe,
        "recipe_name": fields.get("recipe", shared.recipe_name),
    }
