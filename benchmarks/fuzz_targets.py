"""The seven kinds of files that the fuzzer changes, each with a whole one and the code that reads it.

A target's ``make`` writes whole files into a folder once. ``spoil`` copies them into a new folder with one changed, and
``use`` does with the folder what the package does with files of this kind. An error of the package is a refusal; any other
exception is a fault.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fuzz_mutations import HOSTILE_TEXTS, changed_bytes, changed_json, changed_text

YAML = """name: facts
description: Ports and codes.
kind: memory
version: 1.2
category: ports
patterns:
  - id: ssh
    input: "Which port does SSH use?"
    output: "22"
    accept: ["port 22", &p "TCP 22"]
    wordings: ["SSH port?", "On which port does SSH listen?"]
    held_out: ["Where does sshd listen?"]
    match: number
  - {input: "Name of 404?", output: 'Not Found', required: true, max_tokens: 8}
  - {input: "Empty JSON?", output: '{"a": [1, 2]}', match: json}
  - {input: "Loop?", output: "for x in xs: pass", match: python}
  - {input: "Date?", output: "2024-03-05", match: date}
  - {input: "Pattern?", output: "4", accept: ["(?i)four|4+"], match: regex}
"""
YAML_TOKENS = (
    "- ",
    "? ",
    ": ",
    "&a ",
    "*a",
    "*p",
    "!!set ",
    "!!bool ",
    "!!int ",
    "!!timestamp ",
    "!!float ",
    "!x ",
    "|",
    ">",
    "[",
    "]",
    "{",
    "}",
    "'",
    '"',
    "\\",
    "<<: ",
    "=",
    "%",
    "---\n",
    "\t",
    "0x1",
    "1:",
    "1_",
    "~",
    "(a+)+$",
    "{1000}",
    "\n  - ",
    "{[",
    "~~~",
    "```",
    "match: ",
    "regex",
)
TEMPLATE_TOKENS = (
    "{{ ",
    " }}",
    "{% ",
    " %}",
    "{% for x in range(99999) %}",
    "{% endfor %}",
    "{{ 'a' * 999999999 }}",
    "{{ 9**9**9 }}",
    "{% set x = x ~ x %}",
    "messages",
    "[0]",
    ".__class__",
    "|tojson",
    "|center(99999999)",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% if %}",
    "{#",
    "raise_exception('x')",
    "{{ ''.join(messages) }}",
)


@dataclass(frozen=True)
class Target:
    """One kind of file."""

    name: str
    make: Callable[[Path], None]
    spoil: Callable[[Path, Path, random.Random], None]
    use: Callable[[Path], None]


# ── patterns ────────────────────────────────────────────────────────────────────────────────────


def _make_patterns(folder: Path) -> None:
    (folder / "facts.yaml").write_text(YAML)
    rows = [{"name": "facts"}, {"input": "Port?", "output": "22", "accept": ["p"]}, {"input": "Code?", "output": "404"}]
    (folder / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _spoil_patterns(whole: Path, folder: Path, source: random.Random) -> None:
    if source.random() < 0.7:
        (folder / "facts.yaml").write_bytes(changed_text((whole / "facts.yaml").read_text(), YAML_TOKENS, source))
        return
    lines = (whole / "lines.jsonl").read_text().splitlines()
    at = source.randrange(len(lines))
    changed = changed_json(lines[at], source)
    (folder / "lines.jsonl").write_bytes("\n".join(lines[:at]).encode() + b"\n" + changed + b"\n" + lines[0].encode())


def _use_patterns(folder: Path) -> None:
    from engram_bench.matchers.registry import answer_problem, match
    from engram_bench.patterns.expand import accuracy_cases
    from engram_bench.patterns.load import load_pattern_files
    from engram_bench.patterns.render import training_examples

    for pattern_set in load_pattern_files([folder], root=folder):
        training_examples([pattern_set], seed=0)
        for case in accuracy_cases(pattern_set):
            for answer in case.answers:
                with suppress(KeyError):
                    answer_problem(case.match, answer)
                    match(case.match, answer, case.answers)


# ── adapters ────────────────────────────────────────────────────────────────────────────────────


def _make_adapter(folder: Path) -> None:
    import numpy as np

    from engram_bench.adapters.layout import LoraUpdate, write_mlx, write_peft
    from engram_bench.adapters.manifest import foreign_manifest, write_manifest
    from engram_bench.records import Recipe

    random_source = np.random.default_rng(0)
    updates = {
        f"model.layers.{block}.self_attn.q_proj": LoraUpdate(
            random_source.normal(size=(4, 64)).astype(np.float32), np.zeros((64, 4), np.float32), 2.0
        )
        for block in range(2)
    }
    for name in ("peft", "mlx"):
        (folder / name).mkdir()
    write_peft(folder / "peft", updates, Recipe(rank=4, alpha=8.0), base="tiny")
    write_manifest(folder / "peft", foreign_manifest(folder / "peft"))
    write_mlx(folder / "mlx", updates, num_layers=2)
    _make_model(folder / "model")


def _spoil_adapter(whole: Path, folder: Path, source: random.Random) -> None:
    (folder / "model").symlink_to(whole / "model")
    name = source.choice(("peft", "peft", "mlx"))
    shutil.copytree(whole / name, folder / "adapter")
    path = source.choice(sorted((folder / "adapter").iterdir()))
    _spoil_file(path, source)
    if path.name != "manifest.json" and source.random() < 0.7:
        (folder / "adapter" / "manifest.json").unlink(missing_ok=True)


def _use_adapter(folder: Path) -> None:
    from engram_bench.adapters.exchange import import_adapter
    from engram_bench.adapters.layout import read_peft
    from engram_bench.adapters.store import list_adapters, load
    from engram_bench.errors import EngramBenchError

    refused: EngramBenchError | None = None
    model = _model(folder / "model")
    for step in (
        lambda: list_adapters(folder),
        lambda: load(folder / "adapter").fingerprint,
        lambda: read_peft(folder / "adapter"),
        lambda: import_adapter(str(folder / "adapter"), folder / "adapters", model=model),
    ):
        try:
            step()
        except EngramBenchError as error:
            refused = error  # the other readers see the folder, too
    if refused:
        raise refused


# ── memories ────────────────────────────────────────────────────────────────────────────────────

EXAMPLES = (("Which port does SSH use?", "22", "a/ssh"), ("What is the code of Not Found?", "404", "a/code"))


def _make_memory(folder: Path) -> None:
    from engram_bench.memory.config import memory_recipe
    from engram_bench.memory.files import save_memory
    from engram_bench.memory.plan import keyed_examples, untrained_memory
    from engram_bench.records import Prompt, TrainingExample

    _make_model(folder / "model")
    model = _model(folder / "model")
    examples = [TrainingExample(Prompt(prompt), answer, name) for prompt, answer, name in EXAMPLES]
    keyed = keyed_examples(model, examples, 512)
    (folder / "memory").mkdir()
    recipe = memory_recipe(steps=2, seed=0)
    save_memory(folder / "memory", untrained_memory(model, keyed, recipe, lambda _, blocks: dict.fromkeys(blocks, 1.0)))


def _spoil_memory(whole: Path, folder: Path, source: random.Random) -> None:
    (folder / "model").symlink_to(whole / "model")
    shutil.copytree(whole / "memory", folder / "memory")
    _spoil_file(source.choice(sorted((folder / "memory").iterdir())), source)


def _use_memory(folder: Path) -> None:
    from engram_bench.memory.edit import explain, meaning, remove
    from engram_bench.memory.files import load_memory_files, save_memory
    from engram_bench.memory.usage import consulted, values_read
    from engram_bench.records import Prompt

    model, memory = _model(folder / "model"), folder / "memory"
    stored = load_memory_files(memory, model)
    prompt, answer, _ = EXAMPLES[0]
    values_read(memory, model, stored.parameters)
    consulted(memory, model)(Prompt(prompt), answer)
    explain(stored, model.tokenizer, Prompt(prompt), answer)
    meaning(stored, model.tokenizer, Prompt(prompt))
    (folder / "edited").mkdir()
    save_memory(folder / "edited", remove(stored, stored.table.patterns[0]))


# ── runs ────────────────────────────────────────────────────────────────────────────────────────


def _make_run(folder: Path) -> None:
    from dataclasses import replace

    from engram_bench.runs.store import save_run
    from tests.made_up import big_run

    run = big_run()
    save_run(replace(run, results=run.results[:30]), folder)


def _spoil_run(whole: Path, folder: Path, source: random.Random) -> None:
    shutil.copytree(whole / "runs", folder / "runs")
    (path,) = (folder / "runs").glob("0*.json")
    path.write_bytes(changed_json(path.read_text(), source))


def _use_run(folder: Path) -> None:
    from engram_bench.reporting.github import job_summary
    from engram_bench.reporting.html import html_report
    from engram_bench.reporting.json_report import json_text
    from engram_bench.reporting.markdown import markdown_report
    from engram_bench.reporting.terminal import comparison_lines
    from engram_bench.runs.history import read_history
    from engram_bench.runs.store import list_runs, load_run
    from engram_bench.scoring.comparison import compare
    from engram_bench.scoring.gates import DEFAULT_GATES, judge

    read_history(folder)
    for path in list_runs(folder):
        run = load_run(path)
        comparison = compare(run)
        verdicts = judge(DEFAULT_GATES, comparison)
        for report in (html_report, json_text, markdown_report, job_summary, comparison_lines):
            report(run, comparison, verdicts)


# ── completion store ────────────────────────────────────────────────────────────────────────────

SQL = (
    "UPDATE completions SET {column} = {value}",
    "UPDATE completions SET {column} = {value} WHERE key = 'key-3'",
    "UPDATE figures SET figures = {value}",
    "DROP TABLE {table}",
    "ALTER TABLE {table} ADD COLUMN more DEFAULT {value}",
    "ALTER TABLE completions DROP COLUMN seconds",
    "CREATE VIEW v AS SELECT * FROM {table}",
    "CREATE TRIGGER t BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE INDEX i ON {table} (key)",
    "CREATE TABLE other (a)",
    "UPDATE sqlite_master SET sql = {value} WHERE name = '{table}'",
    "UPDATE sqlite_master SET rootpage = {page} WHERE name = '{table}'",
    "UPDATE sqlite_master SET type = {value}",
    "DELETE FROM sqlite_master WHERE name = '{table}'",
    "PRAGMA user_version = {page}",
    "INSERT INTO completions SELECT {value}, text, 1, 1, stop_reason, 1.0, checksum FROM completions LIMIT 1",
)
STORED = [f"key-{number}" for number in range(20)]


def _make_store(folder: Path) -> None:
    from engram_bench.inference.store import CompletionStore
    from engram_bench.records import Completion

    with CompletionStore(folder / "completions.sqlite") as store:
        store.put_many({key: Completion(key * 9, 9, 2, "stop", 0.25) for key in STORED})
        store.put_figures({"key-1": [1.0, 2.0]})


def _spoil_store(whole: Path, folder: Path, source: random.Random) -> None:
    path = folder / "completions.sqlite"
    shutil.copyfile(whole / path.name, path)
    if source.random() < 0.5:
        path.write_bytes(changed_bytes(path.read_bytes(), source))
        return
    values = (
        "NULL",
        "1",
        "-1.5",
        "9e999",
        "X'ff00'",
        "zeroblob(9)",
        *(f"'{text[:99]}'" for text in HOSTILE_TEXTS if "'" not in text and "\0" not in text and "\udc80" not in text),
    )
    with suppress(sqlite3.Error, MemoryError), closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        for _ in range(source.choice((1, 2))):
            statement = source.choice(SQL).format(
                column=source.choice(("key", "text", "prompt_tokens", "stop_reason", "seconds", "checksum")),
                table=source.choice(("completions", "figures")),
                value=source.choice(values),
                page=source.choice((0, 1, 2, 3, 99, 2**31)),
            )
            with suppress(sqlite3.Error):
                connection.execute(statement)


def _use_store(folder: Path) -> None:
    from engram_bench.inference.store import CompletionStore
    from engram_bench.records import Completion

    for turn in range(2):
        warnings: list[str] = []
        with CompletionStore(folder / "completions.sqlite", warn=warnings.append) as store:
            figures = store.get_figures(["key-1"])
            found = store.get_many(STORED)
            assert figures in ({}, {"key-1": [1.0, 2.0]}), figures
            assert all(completion.text == key * 9 for key, completion in found.items())
            store.put_many({key: Completion(key * 9, 9, 2, "stop", 0.25) for key in STORED if key not in found})
            store.put_figures({"key-1": [1.0, 2.0]})
            assert warnings or store.get_many(STORED).keys() == set(STORED)  # what was put may have been put aside
            store.stats()
        assert len(warnings) <= 1 - turn, warnings


# ── models ──────────────────────────────────────────────────────────────────────────────────────


def _make_model(folder: Path) -> None:
    from tests.tiny_models import make_tiny_llama

    folder.mkdir(parents=True, exist_ok=True)
    make_tiny_llama(folder)
    template = json.loads((folder / "tokenizer_config.json").read_text()).get("chat_template")
    if template:
        (folder / "chat_template.jinja").write_text(template)


def _make_models(folder: Path) -> None:
    _make_model(folder / "model")


def _spoil_model(whole: Path, folder: Path, source: random.Random) -> None:
    shutil.copytree(whole / "model", folder / "model")
    path = source.choice(sorted((folder / "model").iterdir()))
    if path.suffix == ".jinja":
        path.write_bytes(changed_text(path.read_text(), TEMPLATE_TOKENS, source))
    else:
        _spoil_file(path, source)


def _use_model(folder: Path) -> None:
    from engram_bench.models.resolve import resolve_model
    from engram_bench.models.tensors import linear_shapes, stored_tensors
    from engram_bench.records import Prompt

    model = resolve_model(str(folder / "model"), cache=folder / "cache")
    linear_shapes(stored_tensors(model.folder))
    tokenizer = model.tokenizer
    tokenizer.encode_prompts([Prompt("Which port?"), Prompt("Which port?", "Be brief.")])
    tokenizer.encode_example(Prompt("a"), "b")
    tokenizer.content_mask(Prompt("a", "s"))
    tokenizer.decode([0, 1, 2])
    assert tokenizer.template_fingerprint
    assert model.context_length > 0


def _make_gguf(folder: Path) -> None:
    from tests.tiny_gguf import write_gguf

    _make_model(folder / "model")
    write_gguf(folder / "model", folder / "model.gguf")


def _spoil_gguf(whole: Path, folder: Path, source: random.Random) -> None:
    data = (whole / "model.gguf").read_bytes()
    head = source.choice((64, 700, 4000, len(data)))  # most of the file is numbers, of which any will do
    (folder / "model.gguf").write_bytes(changed_bytes(data[:head], source) + data[head:])


def _use_gguf(folder: Path) -> None:
    from engram_bench.models.resolve import resolve_model
    from engram_bench.records import Prompt

    model = resolve_model(str(folder / "model.gguf"), cache=folder / "cache")
    model.tokenizer.encode_prompts([Prompt("Which port?")])
    assert model.context_length > 0


def _model(folder: Path) -> Any:
    from engram_bench.models import Model

    return Model("tiny", folder.resolve(), "f" * 64)


def _spoil_file(path: Path, source: random.Random) -> None:
    """Change a JSON file as JSON, a safetensors file in its header or its bytes, any other as bytes."""
    data = path.read_bytes()
    if path.suffix == ".json":
        path.write_bytes(changed_json(data.decode(), source))
    elif path.suffix == ".safetensors" and source.random() < 0.8:
        length = int.from_bytes(data[:8], "little")
        header, values = data[8 : 8 + length].decode(), data[8 + length :]
        kind = source.random()
        if kind < 0.3:
            written = changed_json(header, source)
        elif kind < 0.6:
            written = json.dumps(_retyped(json.loads(header), source)).encode()
        else:  # numbers of the right size that mean something else
            written, values = header.encode(), changed_bytes(values, source).ljust(len(values), b"\xff")[: len(values)]
        path.write_bytes(len(written).to_bytes(8, "little") + written + values)
    else:
        path.write_bytes(changed_bytes(data, source))


def _retyped(header: dict[str, Any], source: random.Random) -> dict[str, Any]:
    """The header with one tensor as large as before, of another type, another shape or another name."""
    name = source.choice([each for each in header if each != "__metadata__"])
    entry = header.pop(name)
    size = entry["data_offsets"][1] - entry["data_offsets"][0]
    change = source.random()
    if change < 0.4:
        bits, names = source.choice(
            ((8, ("U8", "I8", "BOOL")), (16, ("F16", "BF16", "I16")), (32, ("F32", "I32", "U32")))
        )
        entry |= {"dtype": source.choice(names), "shape": [size * 8 // bits]}
    elif change < 0.8:
        entry["shape"] = source.choice(
            (entry["shape"][::-1], [1, *entry["shape"]], [*entry["shape"], 1], [0] if not size else [1])
        )
    return {
        **header,
        (name if change < 0.8 else source.choice(("x", name + "x", "block.99.rows", "a.lora_A.weight"))): entry,
    }


TARGETS = {
    target.name: target
    for target in (
        Target("patterns", _make_patterns, _spoil_patterns, _use_patterns),
        Target("adapters", _make_adapter, _spoil_adapter, _use_adapter),
        Target("memories", _make_memory, _spoil_memory, _use_memory),
        Target("runs", _make_run, _spoil_run, _use_run),
        Target("store", _make_store, _spoil_store, _use_store),
        Target("gguf", _make_gguf, _spoil_gguf, _use_gguf),
        Target("models", _make_models, _spoil_model, _use_model),
    )
}


@dataclass(frozen=True)
class Outcome:
    """What came of one input."""

    verdict: str
    """``read``, ``refused``, or ``fault``."""
    reason: str = ""
    """Error and where it was raised."""


def try_one(name: str, number: int, seed: int, whole: Path, folder: Path) -> Outcome:
    """What comes of one changed input, which is the same for the same name, number and seed; *folder* is deleted."""
    from engram_bench.errors import EngramBenchError

    target = TARGETS[name]
    folder.mkdir(parents=True)
    try:
        target.spoil(whole, folder, random.Random(f"{name} {number} {seed}"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            target.use(folder)
    except EngramBenchError as error:
        long = f"{len(str(error)):,} characters" if len(str(error)) > 100_000 else ""
        return Outcome("fault", f"an error of {long}") if long else Outcome("refused", type(error).__name__)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return Outcome("fault", _where(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome("read")


def _where(error: BaseException) -> str:
    """The error and the innermost line of the package that it passed through."""
    import traceback

    frames = [f for f in traceback.extract_tb(error.__traceback__) if "engram_bench" in f.filename]
    frame = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {error!s:.100}"
