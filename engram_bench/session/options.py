"""Every setting a user can have an opinion about, declared once for pytest, the ini file and the command line.

A flag beats the ini key beats the default. An :class:`Option` knows its name, its text form and how to read it; what it
becomes is a field of :class:`Settings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from engram_bench.backends.registry import SHORTCUTS
from engram_bench.errors import UsageError

PREFIX = "--engram-"
"""Of the flags among pytest's; the command line has ``--``."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of one session, read and checked. Field docs are the options' help texts."""

    backend: str
    model: str
    adapter: str
    adapter_dir: Path
    kind: str
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
    steps: int
    seed: int
    max_tokens: int
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


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: ``--engram-NAME`` and ini key ``engram_NAME`` in pytest, ``--NAME`` on the command line."""

    name: str
    help: str
    """Ends with the default where it is not shown by itself."""
    default: str | tuple[str, ...] | bool
    parse: Callable[[str], Any] = str
    """Text → value; raises ValueError saying what was expected."""
    metavar: str = "TEXT"
    bare: str | None = None
    """What the flag means without a value; None demands one."""

    @property
    def action(self) -> Literal["store", "append", "store_true"]:
        """What argparse does with it, told by the type of the default."""
        if isinstance(self.default, bool):
            return "store_true"
        return "append" if isinstance(self.default, tuple) else "store"

    @property
    def field(self) -> str:
        """Name of the field in :class:`Settings`."""
        return self.name.replace("-", "_")

    @property
    def dest(self) -> str:
        """Name of the value in a namespace and of the ini key."""
        return f"engram_{self.field}"

    def declare(self, add: Callable[..., Any], *, prefix: str = PREFIX, alias: Sequence[str] = ()) -> None:
        """Declare the flag through argparse's or pytest's *add* function, unset by default so that ini keys count."""
        keywords: dict[str, Any] = {"dest": self.dest, "default": None, "action": self.action, "help": self.full_help}
        if self.action != "store_true":
            keywords["metavar"] = self.metavar
        if self.bare is not None:
            keywords |= {"nargs": "?", "const": self.bare}
        add(f"{prefix}{self.name}", *alias, **keywords)

    @property
    def full_help(self) -> str:
        """Help text with the default."""
        if self.action == "store_true":
            return self.help
        shown = ", ".join(self.default) if isinstance(self.default, tuple) else self.default
        return f"{self.help} Default: {shown or 'none'}."

    def read(self, flag: Any, ini: Any, *, prefix: str = PREFIX) -> Any:
        """The value from the flag, else the ini key, else the default; None and empty count as not given.

        Raises:
            UsageError: The text cannot be read; names the flag or ini key, quotes it, says what was expected.
        """
        for given, where in ((flag, f"{prefix}{self.name}"), (ini, f"ini key {self.dest}")):
            if given not in (None, "", [], False):
                return self._parse_all(given, where)
        return self._parse_all(self.default, "default")

    def _parse_all(self, given: Any, where: str) -> Any:
        if isinstance(given, bool):
            return given
        if self.action == "append":
            return tuple(self._parse_one(text, where) for text in given)
        return self._parse_one(given, where)

    def _parse_one(self, text: str, where: str) -> Any:
        try:
            return self.parse(text)
        except ValueError as error:
            msg = f"{where}: got {text!r}, expected {error}"
            raise UsageError(msg) from error


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers *low* … *high*, both included."""
    expected = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(expected) from None
        if number < low or (high is not None and number > high):
            raise ValueError(expected)
        return number

    return read


def positive_number(text: str) -> float:
    """A finite number of at least 0."""
    with suppress(ValueError):
        if 0 <= (number := float(text)) < float("inf"):
            return number
    raise ValueError("a number of at least 0")


def one_of(*words: str) -> Callable[[str], str]:
    """A reader of one of these words."""

    def read(text: str) -> str:
        if text not in words:
            expected = f"one of {', '.join(words)}"
            raise ValueError(expected)
        return text

    return read


def adapter_kind(text: str) -> str:
    """A reader of adapter kinds: ``lora``, ``memory`` or ``both``, the last two with ``:PRESET`` after them."""
    from engram_bench.adapters.kinds import requested_kind  # the start of a session reads no recipes

    requested_kind(text)
    return text


route = one_of("always", "keys", "state")
"""A reader of routes."""


def share(text: str) -> float:
    """A reader of shares between 0 and 1."""
    with suppress(ValueError):
        if 0 < (number := float(text)) < 1:
            return number
    raise ValueError("a share between 0 and 1, such as 0.02")


def shortcuts(text: str) -> tuple[str, ...]:
    """A reader of names of shortcuts with commas between them; none in the empty text."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not {*names} <= {*SHORTCUTS, "all"}:
        expected = f"some of {', '.join(SHORTCUTS)}, with commas between them, or all"
        raise ValueError(expected)
    return names


def optional(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader that takes the empty text for None."""
    return lambda text: read(text) if text else None


OPTIONS: tuple[Option, ...] = (
    Option(
        "backend",
        "Library that trains and answers: auto, cpu, mlx, cuda, server or an installed one.",
        "auto",
        metavar="NAME",
    ),
    Option(
        "model",
        "Model to tune: a preset (smollm2-135m-instruct, smollm2-360m-instruct, qwen2.5-0.5b-instruct, phi-2, "
        "smollm-135m-instruct), a folder, a .gguf file or a Hub id.",
        "smollm2-135m-instruct",
        metavar="MODEL",
    ),
    Option(
        "adapter",
        "auto trains or loads by fingerprint; none asks the bare model; PATH takes that adapter as it is.",
        "auto",
        metavar="auto|none|PATH",
    ),
    Option("server-url", "Address of an OpenAI-compatible server (server backend).", "", metavar="URL"),
    Option("baseline-model", "The bare model's name on the server.", "", metavar="NAME"),
    Option("candidate-model", "The tuned model's name on the server.", "", metavar="NAME"),
    Option("server-concurrency", "Requests to the server at once.", "8", whole_number(1, 256), "N"),
    Option("server-timeout", "Seconds until a request to the server is tried again.", "120", positive_number, "S"),
    Option("load-in-4bit", "Keep the base weights in 4 bits (cuda backend; needs bitsandbytes).", default=False),
    Option("adapter-dir", "Folder of trained adapters.", "adapters", parse=Path, metavar="DIR"),
    Option("retrain", "Train anew even if the adapter is stored.", default=False),
    Option("patterns", "Pattern file or folder; may be repeated.", ("patterns",), parse=Path, metavar="PATH"),
    Option(
        "items",
        "One test per pattern, or per category of a file with its misses listed in it: for sets of thousands.",
        "pattern",
        parse=one_of("pattern", "category"),
        metavar="pattern|category",
    ),
    Option(
        "gate",
        "Rule on the comparison, such as 'accuracy >= +10pp'; may be repeated and replaces the default rules.",
        (),
        metavar="EXPR",
    ),
    Option("gate-only", "Report misses as xfailed and let the gates alone decide.", default=False),
    Option("report-dir", "Folder of reports.", "reports", parse=Path, metavar="DIR"),
    Option(
        "kind",
        "What is trained: lora, memory (an n-gram memory on the frozen model), or both; memory:PRESET and both:PRESET "
        "take another memory of exact, nearest, paper-small, paper.",
        "lora",
        parse=adapter_kind,
        metavar="lora|memory|both",
    ),
    Option(
        "route",
        "When the adapter is asked: always, or only where a question is recognised, and the bare model answers all else; "
        "by its tokens (keys), or by what the bare model makes of it (state).",
        "always",
        parse=route,
        metavar="always|keys|state",
    ),
    Option(
        "route-false-positives",
        "Share of ordinary questions that a router may take for trained ones, which sets its threshold.",
        "0.02",
        parse=share,
        metavar="SHARE",
    ),
    Option("steps", "Optimizer steps at most per adapter.", "450", parse=whole_number(0), metavar="N"),
    Option("seed", "Seed of training and sampling.", "0", parse=whole_number(0, 2**32 - 1), metavar="N"),
    Option("max-tokens", "New tokens per answer at most.", "32", parse=whole_number(1), metavar="N"),
    Option(
        "max-batch-tokens",
        "Tokens of a batch at most, in answering (rows times their longest possible length) and in training: less needs "
        "less memory; else the backend's own bound.",
        "",
        optional(whole_number(1)),
        "N",
    ),
    Option(
        "plain",
        f"Shortcuts to do without, with commas between them: {', '.join(SHORTCUTS)}; or all.",
        "",
        parse=shortcuts,
        metavar="NAME,…",
    ),
    Option("no-cache", "Ignore and do not fill the store of completions.", default=False),
    Option(
        "limit", "Only the first N patterns of each file; training still uses all.", "", optional(whole_number(1)), "N"
    ),
    Option(
        "samples",
        "Sampled repeats of each pattern's prompt for consistency; 0 draws none.",
        "5",
        parse=whole_number(0),
        metavar="K",
    ),
    Option(
        "null-control",
        "Also check that an untrained adapter and one of random weights fail the accuracy gates; costs two evaluations.",
        default=False,
    ),
    Option("sweep", "Keep checkpoints while training and evaluate each; makes an adapter of its own.", default=False),
    Option("checkpoints", "Evenly spaced checkpoints of a sweep.", "6", parse=whole_number(1), metavar="N"),
    Option("temperature", "Temperature of sampled repeats.", "0.7", parse=positive_number, metavar="T"),
    Option(
        "show",
        "Cases that the comparison lists: broken ones, all misses, or all cases, those at length.",
        "misses",
        parse=one_of("broken", "misses", "all"),
        metavar="broken|misses|all",
    ),
    Option(
        "compare",
        "Compare with an earlier run as well, newly broken cases first: a number, a name, a file, or the latest.",
        "",
        metavar="RUN",
        bare="latest",
    ),
    Option(
        "speed-rounds",
        "Timed rounds per side of a speed test before its gate is judged; else the pattern file's.",
        "",
        optional(whole_number(1)),
        "N",
    ),
    Option(
        "speed-budget",
        "Seconds of further rounds per speed test while its gate is undecided.",
        "60",
        whole_number(0),
        "SECONDS",
    ),
)


def read_settings(
    flags: Mapping[str, Any], ini: Mapping[str, Any], *, root: Path, cwd: Path, prefix: str = PREFIX
) -> Settings:
    """Settings from flag values and ini values, both keyed by ``Option.dest``.

    Relative paths of flags are under *cwd*, those of ini keys and defaults under *root* (a pytest user's expectation).

    Raises:
        UsageError: An option cannot be read, or two of them make no sense together.
    """
    values: dict[str, Any] = {}
    for option in OPTIONS:
        flag = flags.get(option.dest)
        value = option.read(flag, ini.get(option.dest), prefix=prefix)
        base = cwd if flag else root
        values[option.field] = _anchored(value, base)
    settings = Settings(**{field.name: values[field.name] for field in fields(Settings)})
    _check_together(settings, prefix)
    return settings


def _check_together(settings: Settings, prefix: str) -> None:
    if settings.temperature == 0 and settings.samples > 1:
        msg = (
            f"{prefix}temperature: got 0 with {prefix}samples={settings.samples}, expected above 0: at temperature 0 every "
            f"repeat is the greedy answer again, so that they agree says nothing (no repeats: {prefix}samples=0)"
        )
        raise UsageError(msg)


def _anchored(value: Any, base: Path) -> Any:
    if isinstance(value, Path):
        return base / value
    if isinstance(value, tuple):
        return tuple(_anchored(part, base) for part in value)
    return value
