"""Candidates as users name them: where they are written, which keys each may have, and what a text such as ``fast`` means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from engram_bench.adapters.found import PEFT_CONFIG
from engram_bench.adapters.kind_names import NAMES as KINDS
from engram_bench.errors import UsageError
from engram_bench.models.presets import PRESETS as MODELS
from engram_bench.scoring.gate_grammar import RESERVED_NAMES
from engram_bench.session.parsing import adapter_kind, one_of, route, whole_number
from engram_bench.session.recipe_fields import PRESETS
from engram_bench.session.recipe_file import table_of, toml_of
from engram_bench.session.settings import FORMS, Settings
from engram_bench.system.files import expanded

TABLE = "candidates"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
RESERVED = ("baseline", *sorted(RESERVED_NAMES))
"""Names that mean something else in a gate."""
SERVED = "server:"
"""What stands before the name of a server's model."""
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Declared:
    """A candidate as the user wrote it, with checked keys."""

    name: str
    fields: Mapping[str, Any]
    """Keys of :data:`KEYS` with their values."""
    source: str
    """File and table, or option, for messages."""
    base: Path
    """Folder that relative paths start from."""


def declared_candidates(
    texts: Sequence[str], shared: Settings, *, root: Path, base: Path, prefix: str
) -> dict[str, Declared]:
    """The named candidates in order: those of the project's files, then those of the option ``candidate``.

    Args:
        texts: Values of the option, ``NAME=VALUE``.
        shared: Settings of the session.
        root: Folder of the project's ``engram.toml`` and ``pyproject.toml``.
        base: Folder that paths of the option start from.
        prefix: Prefix of the options in messages.

    Raises:
        UsageError: A file cannot be read, a name or a key cannot be used, or two candidates have one name.
    """
    found: dict[str, Declared] = {}
    for each in (*_in_files(root), *(_of_text(text, shared, base, f"{prefix}candidate") for text in texts)):
        if each.name in found:
            msg = (
                f"{each.source}: another candidate is named so in {found[each.name].source}, expected one of each name"
            )
            raise UsageError(msg)
        found[each.name] = each
    return found


def chosen_names(only: Iterable[str], names: Iterable[str], source: str) -> tuple[str, ...]:
    """The names in texts with commas between them.

    Raises:
        UsageError: No candidate has one of these names; says which name is nearest.
    """
    known = list(names)
    wanted = [part.strip() for text in only for part in text.split(",") if part.strip()]
    for name in wanted:
        if name not in known:
            expected = _nearest(name, known) if known else "a candidate, but none is named"
            msg = f"{source}: got {name!r}, expected {expected}"
            raise UsageError(msg)
    return tuple(dict.fromkeys(wanted))


# ── tables ──────────────────────────────────────────────────────────────────────────────────────


def _in_files(root: Path) -> Iterator[Declared]:
    for path, names in (
        (root / "engram.toml", (TABLE,)),
        (root / "pyproject.toml", ("tool", "engram-bench", TABLE)),
    ):
        if not path.is_file():
            continue
        document = toml_of(path)
        _check_spelling(table_of(document, names[:-1], str(path)) or {}, path)
        for name, fields in (table_of(document, names, str(path)) or {}).items():
            source = f"{path}: {TABLE}.{name}"
            _check_name(name, source)
            if not isinstance(fields, dict):
                msg = f"{source} is {fields!r}, expected a table"
                raise UsageError(msg)
            yield Declared(name, _checked_keys(fields, source), source, root)


def _check_spelling(tables: Mapping[str, Any], path: Path) -> None:
    """A table whose name only looks like ours would be passed over in silence."""
    for name in tables:
        if name != TABLE and get_close_matches(name, [TABLE], n=1, cutoff=0.8):
            msg = f"{path}: unknown table {name!r}, expected {TABLE!r}"
            raise UsageError(msg)


def _check_name(name: str, source: str) -> None:
    if not NAME.fullmatch(name):
        msg = f"{source}: got {name!r}, expected a name of small letters, digits, '.', '_' and '-', such as lora-2"
        raise UsageError(msg)
    if name in RESERVED:
        msg = f"{source}: {name!r} has a meaning in gates, expected another name than {', '.join(RESERVED)}"
        raise UsageError(msg)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def _as_text(parse: Callable[[str], Any], kind: type) -> Callable[[Any], Any]:
    """The parser of an option for a value of TOML."""

    def parsed(value: Any) -> Any:
        return parse(str(value) if type(value) is kind else "")

    return parsed


def _changes(value: Any) -> Any:
    if isinstance(value, dict) or (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        return value
    raise ValueError("a table of recipe fields, such as {rank = 16}")


KEYS: Mapping[str, Callable[[Any], Any]] = {
    "recipe": _text,
    "kind": _as_text(adapter_kind, str),
    "adapter": _text,
    "model": _text,
    "backend": _text,
    "form": _as_text(one_of(*FORMS), str),
    "route": _as_text(route, str),
    "seed": _as_text(whole_number(0, 2**32 - 1), int),
    "steps": _as_text(whole_number(0), int),
    "set": _changes,
}
"""Key of a candidate's table → its parser."""


def _checked_keys(fields: Mapping[str, Any], source: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    mistakes = []
    for key, value in fields.items():
        if key not in KEYS:
            mistakes.append(f"unknown key {key!r}, expected {_nearest(key, KEYS)}")
            continue
        try:
            found[key] = KEYS[key](value)
        except ValueError as error:
            mistakes.append(f"{key} is {value!r}, expected {error}")
    if mistakes:
        raise UsageError("\n".join(f"{source}: {mistake}" for mistake in mistakes))
    return found


def _nearest(name: str, names: Iterable[str]) -> str:
    known = list(names)
    close = get_close_matches(name, known, n=1)
    return repr(close[0]) if close else f"one of {', '.join(known)}"


# ── texts ───────────────────────────────────────────────────────────────────────────────────────


def _of_text(text: str, shared: Settings, base: Path, source: str) -> Declared:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (equals and name and value):
        msg = f"{source}: got {text!r}, expected NAME=VALUE, such as careful=careful"
        raise UsageError(msg)
    _check_name(name, source)
    where = f"{source} {name}"
    return Declared(name, _meaning(value, shared, base, where), where, base)


def _meaning(text: str, shared: Settings, base: Path, source: str) -> dict[str, Any]:
    """The keys that a text stands for.

    Raises:
        UsageError: The text is none of what a candidate can be.
    """
    if text == "none":
        return {"adapter": text}
    if shared.backend == "server" or text.startswith(SERVED):
        return {"backend": "server", "model": text.removeprefix(SERVED)}
    if text in PRESETS:
        return {"recipe": text}
    if text.partition(":")[0] in KINDS:
        return _checked_keys({"kind": text}, source)
    if text.lower() in MODELS:
        return {"model": text}
    if key := _in_path(base / expanded(text)):
        return {key: text}
    if any(shared.adapter_dir.glob(f"{text}*") if _is_plain(text) else ()):
        return {"adapter": text}
    if _HUB_ID.fullmatch(text) and not text.endswith((".toml", ".gguf")):
        return {"model": text}
    msg = (
        f"{source}: got {text!r}, expected none, a recipe ({', '.join(PRESETS)} or a .toml file), a kind ({', '.join(KINDS)}), "
        f"an adapter (a folder, or the name of a stored one), a model (a preset, a folder, a .gguf file or a Hub id) or "
        f"{SERVED}NAME"
    )
    raise UsageError(msg)


def _in_path(path: Path) -> str:
    """The key for what is in a path; empty where nothing of use is there."""
    if path.is_file():
        return {".toml": "recipe", ".gguf": "model"}.get(path.suffix, "")
    if not path.is_dir():
        return ""
    is_model = (path / "config.json").is_file() and not (path / PEFT_CONFIG).is_file()
    return "model" if is_model else "adapter"


def _is_plain(text: str) -> bool:
    """Whether a text can be the start of the name of a stored adapter."""
    return bool(re.fullmatch(r"[\w.-]+", text)) and not text.startswith(".")
