"""The JSON text of a run, and the run read back without loss.

{"schema": 1,
"name": …,
"results": [
{"case": 0, "side": …},       an index into ``cases``
…],
"cases": [
{"id": …},                    every case once, though both sides and several tests ask it
…]}
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engram_bench.records import Case, CaseResult, Run
from engram_bench.records.plain import RecordMismatch, from_plain, to_json_lines, to_plain
from engram_bench.system.reading import parse_json

MAX_RUN_VALUES = 16_000_000
"""Most values of a run file, twice those of 100,000 cases."""
RUN_SCHEMA = 1
"""Number of the format. A change that an older reader would misread raises it; a new field with a default does not."""


def run_to_json(run: Run) -> str:
    """JSON text of a run, ending with a newline."""
    index = {case: number for number, case in enumerate(dict.fromkeys(row.case for row in run.results))}
    plain = {"schema": RUN_SCHEMA, **to_plain(replace(run, results=()))}
    plain["cases"] = [to_plain(case) for case in index]
    plain["results"] = [_row(result, index[result.case]) for result in run.results]
    return to_json_lines(plain)


def run_from_json(text: str | bytes) -> Run:
    """The run that :func:`run_to_json` wrote.

    Raises:
        ValueError: The text is cut, is not JSON or has another schema; the message says where, what was found and what
            was expected.
    """
    plain = parse_json(text, most_values=MAX_RUN_VALUES)
    if not isinstance(plain, dict) or "schema" not in plain:
        msg = "found no schema number, expected the JSON object of a run"
        raise ValueError(msg)
    if (schema := plain.pop("schema")) != RUN_SCHEMA:
        msg = f"schema: found {schema!r}, expected {RUN_SCHEMA}; another version of engram-bench wrote the file"
        raise ValueError(msg)
    cases = _read_cases(plain.pop("cases", []))
    results = plain.get("results")
    if isinstance(results, list):
        plain["results"] = [_with_case(row, cases, number) for number, row in enumerate(results)]
    return from_plain(Run, plain)


def _row(result: CaseResult, case_index: int) -> dict[str, Any]:
    row = {name: to_plain(getattr(result, name)) for name in CaseResult.__slots__ if name != "case"}
    return {"case": case_index, **row}


def _read_cases(rows: Any) -> tuple[Case, ...]:
    kind: Any = tuple[Case, ...]
    try:
        return from_plain(kind, rows)
    except RecordMismatch as error:
        raise error.inside("cases") from None


def _with_case(row: Any, cases: tuple[Case, ...], number: int) -> Any:
    """The row with its case in place of the case's index."""
    index = row.get("case") if isinstance(row, dict) else None
    if type(index) is not int or not 0 <= index < len(cases):
        msg = f"results[{number}].case: found {index!r}, expected an index below {len(cases)}"
        raise RecordMismatch(msg)
    return {**row, "case": cases[index]}
