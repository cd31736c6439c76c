"""The ``cpu`` backend against lm-evaluation-harness (batches of 16, float32, chat template) on the shipped prompts.

    make rivals                                                    # the harness in an environment of its own
    python -m benchmarks.against_lm_eval --adapter FOLDER [--limit N] [--rounds N]

Both sides of a comparison are answered, 32 tokens at most: the bare model and the adapter. The harness takes a process for each;
ours answers both in one. Generation is timed alone, with ours reading the weights, and as whole processes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

from benchmarks.against_unsloth import SIDES, answer_ours
from benchmarks.side_by_side import Found, Row, material, measure, num_right, parts, start, take_turns

MODULE = "benchmarks.against_lm_eval"
RUNNER = Path(__file__).parent / "lm_eval_runner.py"


def main() -> None:
    options = start(__doc__, _add_options)
    if not options.python.exists():
        msg = f"{options.python}: no such interpreter, expected one with lm_eval: make rivals"
        raise SystemExit(msg)
    measure(MODULE, JOBS, options, lambda folder: compare(folder, options))


def _add_options(parser: argparse.ArgumentParser) -> None:
    default = Path(".venv/lm-eval/bin/python")
    parser.add_argument("--python", type=Path, default=default, help="that imports lm_eval. Default: %(default)s")
    parser.add_argument("--adapter", type=Path, required=True, help="in PEFT's layout; both answer with it")


def compare(folder: Path, options: argparse.Namespace) -> tuple[list[Row], Found]:
    """The rows of the table, and how many answers were right on each side."""
    found = take_turns(MODULE, ("ours", "theirs-bare", "theirs-tuned"), folder, options)
    ours = found["ours"]
    theirs = [
        {
            "bare": bare["generation"],
            "tuned": tuned["generation"],
            "bare p": bare["process"],
            "tuned p": tuned["process"],
        }
        for bare, tuned in zip(found["theirs-bare"], found["theirs-tuned"], strict=True)
    ]
    num_prompts = len(ours[-1]["texts"]["bare"])
    rows = [Row(f"{num_prompts} prompts answered, {side}", parts(ours, side), parts(theirs, side)) for side in SIDES]
    rows.append(Row("both sides answered", parts(ours, *SIDES), parts(theirs, *SIDES), wanted=3))
    rows.append(
        Row("both sides, whole processes", parts(ours, "process"), parts(theirs, "bare p", "tuned p"), wanted=3)
    )
    _, cases, _ = material(options.limit)
    facts: Found = {}
    for side in SIDES:
        mine, other = ours[-1]["texts"][side], found[f"theirs-{side}"][-1]["texts"]
        same = sum(a.strip() == b.strip() for a, b in zip(mine, other, strict=True))
        facts[side] = (
            f"{num_right(mine, cases)} right, {num_right(other, cases)} by lm-evaluation-harness, "
            f"{same} of {len(cases)} answers the same"
        )
    return rows, facts


def theirs_bare(folder: Path, options: argparse.Namespace) -> Found:
    return _theirs(folder, options)


def theirs_tuned(folder: Path, options: argparse.Namespace) -> Found:
    return _theirs(folder, options, str(options.adapter.resolve()))


def _theirs(folder: Path, options: argparse.Namespace, *adapter: str) -> Found:
    model, cases, _ = material(options.limit)
    assert all(case.prompt.system is None for case in cases)  # the runner writes user turns only
    documents = folder / "documents.jsonl"
    lines = [json.dumps({"prompt": case.prompt.user, "answer": case.answers[0]}) for case in cases]
    documents.write_text("\n".join(lines), "utf-8")
    command = [str(options.python), str(RUNNER), str(model.folder), str(documents), *adapter]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


JOBS = {"ours": answer_ours, "theirs-bare": theirs_bare, "theirs-tuned": theirs_tuned}

if __name__ == "__main__":
    main()
