"""The grammar of gates: what an expression may say, and what it means.

[CANDIDATE.][SCOPE.]METRIC >= | <= [+|-]NUMBER[pp|%|unit] [over CANDIDATE]

accuracy >= +10pp                    percentage points over the baseline
accuracy >= +10%                     relative to the baseline's own value
accuracy >= 90%                      absolute floor
answer_tokens <= 12                  absolute ceiling in the metric's unit
category:http_codes.accuracy >= 95%  one slice; also file:NAME., worst_category., worst_file.
careful.accuracy >= 90%              one candidate of a set; best. takes the best candidate, every. each of them
careful.accuracy >= +5pp over fast   percentage points over another candidate
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from engram_bench.errors import GateSyntaxError, UsageError
from engram_bench.scoring.metrics import METRICS

GRAMMAR = (
    "[CANDIDATE.|best.|every.][category:NAME.|file:NAME.|worst_category.|worst_file.]"
    "METRIC >= or <= [+|-]NUMBER[pp|%|unit] [over CANDIDATE]"
)

BEST, EVERY = "best", "every"
"""Words that address the candidate with the best value, and each candidate of a set."""
CANDIDATE_NAME = r"\w(?:[\w+.-]*?[\w+-])??"
"""Name of a candidate as a regular expression: letters, digits, ``_``, ``+``, ``-`` and dots inside (``qwen2.5-lora``).

The expression is lazy, so that a scope behind the name is no part of it.
"""
RESERVED_NAMES = frozenset({BEST, EVERY, "over", "category", "file", "worst_category", "worst_file"})
"""Words of the grammar, which no candidate may have as its name."""

ALIASES = {"consistency": "consistent_accuracy"}
"""Short name → metric. Consistency is gated as *correct under every wording*: one repeated wrong answer must not pass."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One parsed rule. Two gates are equal where they ask the same, however they are written."""

    text: str = field(compare=False)
    """Expression as written."""
    scope: str
    """Slice that is judged: ``""``, ``category:NAME``, ``file:NAME``, ``worst_category`` or ``worst_file``."""
    metric: str
    """Name in ``METRICS``, aliases resolved."""
    operator: str
    """``>=`` or ``<=``."""
    relative: bool
    """Whether the number has a sign, which makes it a difference from the baseline."""
    number: float
    unit: str
    """Unit: ``pp``, ``%`` (of 1 for an absolute rate, of the baseline with a sign) or the metric's own unit."""
    is_default: bool = field(default=False, compare=False)
    """Whether the gate is one of ``DEFAULT_GATES`` and not the user's."""
    candidate: str = ""
    """Candidate that is judged: a name, ``best`` or ``every``; empty for the only candidate, or each of a set."""
    over: str = ""
    """Candidate that a relative gate compares with; empty for the baseline."""

    def __str__(self) -> str:
        """The canonical text, which parses to an equal gate."""
        subject = ".".join(filter(None, (self.candidate, self.scope, self.metric)))
        return f"{subject} {self.operator} {self._amount}{self.unit}{self._over}"

    @property
    def names(self) -> tuple[str, ...]:
        """Candidates, ``best`` and ``every`` that the gate names; none for a gate on each candidate by itself."""
        return tuple(filter(None, (self.candidate, self.over)))

    @property
    def wanted(self) -> str:
        """The rule in words: ``at least +10 pp``."""
        amount = f"at {'least' if self.operator == '>=' else 'most'} {self._amount} {self.unit}".rstrip()
        return f"{amount}{self._over}"

    @property
    def _over(self) -> str:
        return f" over {self.over}" if self.over else ""

    @property
    def _amount(self) -> str:
        return f"{self.number:{'+' if self.relative else ''}.12g}"

    @property
    def asks_for_gain(self) -> bool:
        """Whether the gate is relative and no change is not enough: ``accuracy >= +10pp``, ``answer_tokens <= -20%``."""
        return self.relative and (self.number > 0 if self.operator == ">=" else self.number < 0)

    def margin(self, value: float) -> float:
        """Distance of *value* from the bound, in the gate's unit; negative where the gate is missed.

        The distance is rounded to nine digits, because 0.1 × 100 is not quite 10.
        """
        return round(value - self.number if self.operator == ">=" else self.number - value, 9)


_GATE = re.compile(
    rf"""\s*
    (?:(?!worst_category\.|worst_file\.)(?P<candidate>{CANDIDATE_NAME})\.)?
    (?:(?P<scope>category:.+|file:.+|worst_category|worst_file)\.)?
    (?P<metric>[A-Za-z_]\w*)\s*
    (?P<operator>>=|<=)\s*
    (?P<sign>[+-]?)\s*
    (?P<number>[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?)\s*
    (?P<unit>[A-Za-z/%]*)
    (?:\s+over\s+(?P<over>{CANDIDATE_NAME}))?\s*""",
    re.VERBOSE,
)


def parse_gate(text: str, *, known: Collection[str] = tuple(METRICS)) -> Gate:
    """The gate of an expression such as ``accuracy >= +10pp``.

    A number without a unit is in the metric's unit. A rate may also be written in per cent: ``0.9`` and ``90%`` are the same.

    Args:
        text: Expression in the grammar of gates.
        known: Names of the metrics that a gate may judge.

    Raises:
        GateSyntaxError: *text* does not follow the grammar, or its unit does not fit its metric or sign.
        UsageError: The metric is not one of *known*.
    """
    found = _GATE.fullmatch(text)
    if found is None:
        message = f"gate {text!r}: found no rule, expected {GRAMMAR}, such as 'accuracy >= +10pp'"
        raise GateSyntaxError(message)
    metric = ALIASES.get(found["metric"], found["metric"])
    if metric not in known:
        message = f"gate {text!r}: found metric {metric!r}, expected one of {', '.join(known)}{nearest(metric, known)}"
        raise UsageError(message)
    if found["over"] and not found["sign"]:
        message = (
            f"gate {text!r}: found no sign before the number, expected +{found['number']} or -{found['number']} over"
        )
        raise GateSyntaxError(message)
    own_unit = METRICS[metric].unit if metric in METRICS else ""
    relative, number, unit = bool(found["sign"]), float(found["sign"] + found["number"]), found["unit"]
    if advice := _unit_advice(own_unit, relative=relative, number=number, unit=unit):
        message = f"gate {text!r}: found {''.join(found.group('sign', 'number', 'unit'))}, expected {advice}"
        raise GateSyntaxError(message)
    if own_unit == "rate" and not unit:
        number, unit = round(100 * number, 9), "%"
    return Gate(
        text.strip(),
        found["scope"] or "",
        metric,
        found["operator"],
        relative,
        number,
        unit or own_unit,
        candidate=found["candidate"] or "",
        over=found["over"] or "",
    )


def _unit_advice(own_unit: str, *, relative: bool, number: float, unit: str) -> str:
    """What to write in place of an amount that does not fit the metric; empty for an amount that fits."""
    is_rate = own_unit == "rate"
    if unit == "pp":
        if not is_rate:
            return f"% or {own_unit}: percentage points are for rates"
        return "" if relative else f"a sign before percentage points: +{number:g}pp or -{number:g}pp"
    if unit == "%":
        if not relative and not is_rate:
            return "a sign before the number: % is a share of the baseline's value"
        return "a rate of at most 100%" if is_rate and not relative and number > 100 else ""
    if is_rate and relative:
        return "a unit after the number: pp (percentage points) or % (of the baseline's value)"
    if is_rate and not unit:
        return f"a rate of at most 1: {number:g}%" if number > 1 else ""
    return "" if unit in ("", own_unit) else ("pp or %" if is_rate else f"{own_unit} or %".removeprefix(" or "))


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as ``; did you mean 'accuracy'?``; empty where no known name is similar."""
    return "".join(f"; did you mean {near!r}?" for near in difflib.get_close_matches(name, known, n=1))


DEFAULT_GATES = tuple(
    replace(parse_gate(text), is_default=True)
    for text in ("accuracy >= +10pp", "consistency >= +20pp", "retention >= 90%", "decode_speed >= -5%")
)


def session_gates(texts: Iterable[str] = (), *, candidates: Collection[str] = ()) -> tuple[Gate, ...]:
    """The gates of *texts*, or the default gates without any text.

    Args:
        texts: Expressions in the grammar of gates.
        candidates: Names of the candidates that gates may address; none for a session with a single candidate.

    Raises:
        GateSyntaxError: An expression does not follow the grammar.
        UsageError: A metric or a candidate is unknown.
    """
    gates = tuple(parse_gate(text) for text in texts) or DEFAULT_GATES
    check_candidates(gates, candidates)
    return gates


def own_gates(texts: Iterable[str] = ()) -> tuple[Gate, ...]:
    """Those of :func:`session_gates` that are judged on a candidate by itself: they name none."""
    return tuple(gate for gate in tuple(map(parse_gate, texts)) or DEFAULT_GATES if not gate.names)


def check_candidates(gates: Iterable[Gate], candidates: Collection[str]) -> None:
    """Refuse gates that address a candidate which is not there.

    Raises:
        UsageError: A gate names an unknown candidate, compares a candidate with itself, or addresses a candidate where
            there is only one.
    """
    for gate in gates:
        named = [name for name in (gate.candidate, gate.over) if name]
        for name in named:
            if name not in candidates and not (candidates and name in (BEST, EVERY) and name == gate.candidate):
                known = (
                    f"one of {', '.join(candidates)}" if candidates else "no candidate's name: there is one candidate"
                )
                hint = nearest(name, [*candidates, BEST, EVERY]) if candidates else ""
                msg = f"gate {gate.text!r}: found candidate {name!r}, expected {known}{hint}"
                raise UsageError(msg)
        if gate.over and gate.over == gate.candidate:
            msg = f"gate {gate.text!r}: found {gate.over!r} on both sides, expected two candidates"
            raise UsageError(msg)
