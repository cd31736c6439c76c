"""The shape of a memory: presets, and a recipe's options read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from engram_bench.errors import BackendError
from engram_bench.records import Recipe

DESCRIPTION_FILE = "memory.json"
"""File of an adapter's folder that says there is a memory, and which."""

Addressing = Literal["exact", "hashed"]
Gate = Literal["none", "paper", "plain"]


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """The shape of a memory and how its rows are trained."""

    preset: str = "exact"
    addressing: Addressing = "exact"
    """``exact``: only trained n-grams have a row. ``hashed``: every n-gram has one, shared by chance (the paper's)."""
    orders: tuple[int, ...] = (2, 3, 5, 8)
    """Lengths of the suffix n-grams, in tokens."""
    whole: bool = True
    """One more slot for the whole question with the answer so far; ``exact`` only."""
    layers: tuple[int, ...] = (-1,)
    """Blocks before which the memory writes; negative counts from the end. More than the model has: the last."""
    row_size: int = 56
    """Values per row."""
    heads: int = 1
    """Rows per order; ``hashed`` only."""
    rows_per_head: int = 8209
    """Least table size; the next primes are taken. ``hashed`` only."""
    skip_template: bool = True
    """N-grams are of the question's and answer's tokens; the chat template between them is not seen."""
    answers_only: bool = True
    """Write only where an answer's token is being predicted."""
    near: float = 0.01
    """Share of ordinary questions that may be taken for a trained one in other words; 0: none is. ``exact`` only."""
    ways: int = 2
    """Wordings of a pattern that its rows are trained on, the prompt first; further ones are only read as the prompt. 0: all."""
    compress: bool = False
    """Tokens whose text is equal up to case, accents and white space count as one."""
    gate: Gate = "none"
    kernel: int = 0
    """Positions that the short convolution over what was written sees, as far apart as the longest order; 0: none."""
    train_projection: bool = False
    """False keeps the random projection of the seed: all that is learned is in the rows."""
    row_rate: float = 0.2
    """Adam's step for rows."""
    projection_rate: float = 1e-3
    key_dropout: float = 0.3
    """Share of slots that are empty in a training pass, so that short orders learn too."""
    batch_size: int = 64
    """Examples computed together."""
    seed: int = 0

    @property
    def slots(self) -> int:
        """Rows read by a position."""
        return len(self.orders) * self.heads + self.whole

    @property
    def needs_variants(self) -> bool:
        """Whether training on further wordings of a question helps; not where a wording is read as the question."""
        return not self.near

    def blocks(self, num_blocks: int) -> tuple[int, ...]:
        """The blocks before which a model of *num_blocks* is written to, in order, each once."""
        found = {layer + num_blocks if layer < 0 else layer for layer in self.layers}
        return tuple(sorted({min(max(0, block), num_blocks - 1) for block in found}))


PRESETS: Mapping[str, MemoryConfig] = {
    "exact": MemoryConfig(),
    "nearest": MemoryConfig(preset="nearest", near=0.1),  # for use behind a router, which keeps other questions away
    "paper-small": MemoryConfig(
        preset="paper-small",
        addressing="hashed",
        orders=(2, 3),
        whole=False,
        layers=(1, 14),
        row_size=16,
        heads=8,
        rows_per_head=8209,
        skip_template=False,
        answers_only=False,
        near=0.0,
        compress=True,
        gate="paper",
        kernel=4,
        train_projection=True,
        row_rate=5e-3,
        key_dropout=0.0,
        batch_size=16,
    ),
}
PRESETS = {**PRESETS, "paper": replace(PRESETS["paper-small"], preset="paper", row_size=80, rows_per_head=65_537)}


def memory_recipe(*, preset: str = "exact", steps: int, seed: int) -> Recipe:
    """A recipe of kind ``memory``: every step is one pass over the examples that are not yet recalled with confidence."""
    return Recipe(kind="memory", steps=steps, replay=0, seed=seed, options=options_of(preset))


def options_of(preset: str) -> dict[str, str | int | float | bool]:
    """A preset's name and all that it stands for, so that a changed preset is another recipe; the name alone if unknown."""
    fields_of = asdict(PRESETS[preset]) if preset in PRESETS else {}
    plain = {
        name: ",".join(map(str, value)) if isinstance(value, tuple) else value for name, value in fields_of.items()
    }
    return {**{name: value for name, value in plain.items() if name != "seed"}, "preset": preset}


def config_of(recipe: Recipe) -> MemoryConfig:
    """The memory that a recipe's options ask for: a preset with some of its fields set otherwise.

    Tuples are written with commas: ``{"preset": "exact", "orders": "3,8", "layers": "20"}``.

    Raises:
        BackendError: An option is unknown or has a value that cannot be used; names it.
    """
    options = dict(recipe.options)
    preset = options.pop("preset", "exact")
    if preset not in PRESETS:
        msg = f"recipe: memory preset is {preset!r}, expected one of {', '.join(PRESETS)}"
        raise BackendError(msg)
    known = {field.name for field in fields(MemoryConfig)} - {"preset", "seed"}
    if unknown := sorted(set(options) - known):
        msg = f"recipe: unknown memory option {unknown[0]!r}, expected one of {', '.join(sorted(known))}"
        raise BackendError(msg)
    base = PRESETS[str(preset)]
    read = {name: read_option(name, value, getattr(base, name)) for name, value in options.items()}
    return checked(replace(base, seed=recipe.seed, **read))


def checked(config: MemoryConfig) -> MemoryConfig:
    """The same configuration, if a memory can be made of it.

    Raises:
        BackendError: It cannot; names the field, what it is and what was expected.
    """
    orders = config.orders
    rules = (
        ("addressing", config.addressing, config.addressing in get_args(Addressing), "exact or hashed"),
        ("gate", config.gate, config.gate in get_args(Gate), "none, paper or plain"),
        ("orders", orders, all(1 <= order <= 64 for order in orders), "lengths from 1 to 64"),
        ("orders", orders, orders == tuple(sorted(set(orders))), "rising lengths, each once"),
        ("orders", orders, bool(orders) or config.whole, "at least one, or whole"),
        ("layers", config.layers, 1 <= len(config.layers) <= 1000, "at least one block"),
        ("kernel", config.kernel, 0 <= config.kernel <= 1000, "0 to 1000"),
        ("row_size", config.row_size, 1 <= config.row_size <= 65_536, "1 to 65536"),
        ("heads", config.heads, 1 <= config.heads <= 1000, "1 to 1000"),
        ("rows_per_head", config.rows_per_head, 1 <= config.rows_per_head <= 1 << 26, f"1 to {1 << 26}"),
        ("heads", config.heads, config.heads == 1 or config.addressing == "hashed", "1 with exact addresses"),
        ("whole", config.whole, not (config.whole and config.addressing == "hashed"), "False with hashed addresses"),
        ("key_dropout", config.key_dropout, 0 <= config.key_dropout < 1, "a share from 0, below 1"),
        ("ways", config.ways, config.ways >= 0, "at least 0"),
        ("near", config.near, 0 <= config.near < 1, "a share from 0, below 1"),
        (
            "near",
            config.near,
            not config.near or _reads_questions(config),
            "0 unless addresses are exact, of answers alone",
        ),
        ("batch_size", config.batch_size, config.batch_size >= 1, "at least 1"),
    )
    check_rules(rules)
    return config


def check_rules(rules: Iterable[tuple[str, Any, bool, str]]) -> None:
    """Return if all the rules hold: each is an option's name, its value, whether that is allowed, and what would be.

    Raises:
        BackendError: One does not; names the option, what it is and what was expected.
    """
    for name, found, holds, expected in rules:
        if not holds:
            msg = f"recipe: memory option {name} is {found!r}, expected {expected}"
            raise BackendError(msg)


def _reads_questions(config: MemoryConfig) -> bool:
    """Whether what is read depends on the question alone, so that it may be read as another one."""
    return config.addressing == "exact" and config.skip_template and config.answers_only


def read_option(name: str, value: Any, like: Any) -> Any:
    """An option's value in the type of *like*.

    Raises:
        BackendError: It cannot be read so.
    """
    try:
        if isinstance(like, tuple):
            return tuple(int(part) for part in str(value).split(",") if part.strip())
        if isinstance(like, bool):
            return {"true": True, "false": False}[str(value).lower()]
        return type(like)(value)
    except (ValueError, KeyError) as error:
        kind = "numbers with commas between them" if isinstance(like, tuple) else type(like).__name__
        msg = f"recipe: memory option {name} is {value!r}, expected {kind}"
        raise BackendError(msg) from error
