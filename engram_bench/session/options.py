"""Every setting a user can have an opinion about, declared once for pytest, the ini file and the command line.

A flag beats the ini key beats the default. An :class:`Option` knows its name, its help and its parser; its value becomes a field
of :class:`Settings`.
"""

from __future__ import annotations

from pathlib import Path

from engram_bench.backends.specs import SHORTCUTS
from engram_bench.session.option import Option
from engram_bench.session.parsing import (
    adapter_kind,
    auto_or,
    one_of,
    optional,
    positive_number,
    route,
    share,
    shortcuts,
    whole_number,
)
from engram_bench.session.settings import Settings

__all__ = ["OPTIONS", "Settings"]

OPTIONS: tuple[Option, ...] = (
    Option(
        "backend",
        "Library that trains and answers: auto, cpu, mlx, cuda, server, or the name of an installed backend.",
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
        "Adapter to test: auto trains it, or loads it if it is stored; none tests the bare model; PATH tests the adapter in "
        "that folder without training, and NAME the one of this name in the adapter folder.",
        "auto",
        metavar="auto|none|PATH|NAME",
    ),
    Option("server-url", "Address of an OpenAI-compatible server, for the server backend.", "", metavar="URL"),
    Option("baseline-model", "Name of the bare model on the server.", "", metavar="NAME"),
    Option("candidate-model", "Name of the tuned model on the server.", "", metavar="NAME"),
    Option(
        "server-concurrency", "Number of requests sent to the server at the same time.", "8", whole_number(1, 256), "N"
    ),
    Option(
        "server-timeout",
        "Seconds for one request to the server: connection, answer, and every further try.",
        "120",
        positive_number,
        "SECONDS",
    ),
    Option(
        "load-in-4bit", "Keep the base weights in 4 bits, on the cuda backend; this needs bitsandbytes.", default=False
    ),
    Option("adapter-dir", "Folder where trained adapters are stored.", "adapters", parse=Path, metavar="DIR"),
    Option("retrain", "Train the adapter again even if it is stored.", default=False),
    Option("patterns", "Pattern file or folder; may be repeated.", ("patterns",), parse=Path, metavar="PATH"),
    Option(
        "items",
        "What one test item covers: a pattern, or all patterns of a category in a file. category is for sets of thousands of "
        "patterns; a failing item then lists its misses.",
        "pattern",
        parse=one_of("pattern", "category"),
        metavar="pattern|category",
    ),
    Option(
        "gate",
        "Rule on the comparison, such as 'accuracy >= +10pp'; may be repeated, and replaces the default gates.",
        (),
        metavar="EXPR",
    ),
    Option("gate-only", "Report missed cases as xfailed, so that only the gates decide.", default=False),
    Option("report-dir", "Folder where reports are written.", "reports", parse=Path, metavar="DIR"),
    Option(
        "kind",
        "Kind of adapter to train: lora, memory (an n-gram memory beside the frozen model), or both. memory:PRESET and "
        "both:PRESET choose the memory: exact, nearest, paper-small or paper.",
        "lora",
        parse=adapter_kind,
        metavar="lora|memory|both",
    ),
    Option(
        "route",
        "Questions that reach the adapter: always sends all questions; keys and state send only questions that look like "
        "trained ones, by their tokens (keys) or by the bare model's hidden state (state). The bare model answers the others.",
        "always",
        parse=route,
        metavar="always|keys|state",
    ),
    Option(
        "route-false-positives",
        "Share (0 to 1) of ordinary questions that a router may take for trained ones; it sets the router's threshold.",
        "0.02",
        parse=share,
        metavar="SHARE",
    ),
    Option(
        "recipe",
        "Recipe of the training: default, forerunner, fast, careful, or a TOML file. Without this option, [recipe] of "
        "engram.toml or [tool.engram-bench.recipe] of pyproject.toml is used.",
        "",
        metavar="PRESET|FILE",
    ),
    Option("set", "Field of the recipe, such as rank=16; may be repeated.", (), metavar="FIELD=VALUE"),
    Option(
        "candidate",
        "Candidate to test beside the others, under a name of your own: a recipe, a kind, an adapter, a model, server:NAME or "
        "none; may be repeated, and adds to [candidates.NAME] of engram.toml.",
        (),
        metavar="NAME=VALUE",
    ),
    Option(
        "seeds",
        "Number of seeds under which each recipe is trained and judged, from --engram-seed on; figures are means over seeds, "
        "and a gate passes only if it holds over seeds.",
        "1",
        parse=whole_number(1, 100),
        metavar="N",
    ),
    Option("only", "Candidates to test, with commas between them; may be repeated.", (), metavar="NAME"),
    Option(
        "steps",
        "Largest number of optimizer steps per adapter; replaces the value of the recipe. auto is 450 for up to 600 training "
        "examples, and one step more for each further example.",
        "auto",
        parse=auto_or(whole_number(0)),
        metavar="N|auto",
    ),
    Option(
        "seed",
        "Seed of training and of sampling; replaces the value of the recipe.",
        "0",
        parse=whole_number(0, 2**32 - 1),
        metavar="N",
    ),
    Option(
        "max-tokens",
        "Largest number of new tokens per answer. A pattern whose longest accepted answer is longer gets a multiple of it, "
        "unless the pattern file sets a limit.",
        "32",
        parse=whole_number(1),
        metavar="N",
    ),
    Option(
        "max-reasoning-tokens",
        "Largest number of new tokens of a model's reasoning before its answer; max-tokens then bounds the answer alone. "
        "Without this option reasoning counts towards max-tokens.",
        "",
        optional(whole_number(1)),
        "N",
    ),
    Option(
        "max-batch-tokens",
        "Largest number of tokens in a batch, in answering (rows times their longest possible length) and in training; a "
        "smaller number needs less memory. Without this option the backend chooses.",
        "",
        optional(whole_number(1)),
        "N",
    ),
    Option(
        "plain",
        f"Shortcuts to switch off, with commas between them: {', '.join(SHORTCUTS)}; or all.",
        "",
        parse=shortcuts,
        metavar="NAME,…",
    ),
    Option("no-cache", "Do not use the store of completions: neither read from it nor write to it.", default=False),
    Option(
        "limit",
        "Number of patterns to ask from the start of each file; required patterns are always asked, and training uses all.",
        "",
        optional(whole_number(1)),
        "N",
    ),
    Option(
        "samples",
        "Number of sampled answers to each pattern's prompt, for consistency; 0 draws none.",
        "5",
        parse=whole_number(0),
        metavar="K",
    ),
    Option(
        "null-control",
        "Also check that an untrained adapter and an adapter of random weights fail the accuracy gates; this takes two more "
        "evaluations.",
        default=False,
    ),
    Option(
        "sweep",
        "Keep checkpoints during training and evaluate each of them. The adapter is stored separately from one without "
        "checkpoints.",
        default=False,
    ),
    Option(
        "checkpoints",
        "Number of checkpoints of a sweep, evenly spaced over the steps.",
        "6",
        parse=whole_number(1),
        metavar="N",
    ),
    Option("temperature", "Temperature of sampled answers.", "0.7", parse=positive_number, metavar="T"),
    Option(
        "show",
        "Cases that the comparison lists: broken cases, all misses, or all cases, however many.",
        "misses",
        parse=one_of("broken", "misses", "all"),
        metavar="broken|misses|all",
    ),
    Option(
        "compare",
        "Earlier run to compare with as well: a number, a name or a file; without a value, the latest run.",
        "",
        metavar="RUN",
        bare="latest",
    ),
    Option(
        "speed-rounds",
        "Number of timed rounds per side of a speed test before its gate is judged. Without this option the pattern file "
        "decides.",
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
"""Every option, in the order of the help."""
