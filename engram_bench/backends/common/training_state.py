"""The state of a training that an interrupted one goes on from, in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from engram_bench.backends.common.curriculum import Curriculum
from engram_bench.records.training_log import TrainingLog
from engram_bench.system.reading import parse_json
from engram_bench.system.tensor_files import read_arrays, write_arrays

State = Mapping[str, NDArray[Any]]
"""Arrays that a training step changes, by name."""


def save_state(path: Path, identity: str, arrays: State, log: TrainingLog, curriculum: Curriculum) -> None:
    """Write the state of the training of this *identity* to *path*."""
    metadata = {
        "identity": identity,
        "done": json.dumps(asdict(log)),
        "curriculum": json.dumps(curriculum.state()),
    }
    write_arrays(path, arrays, metadata=metadata)


def load_state(
    path: Path, identity: str, names: Sequence[str], curriculum: Curriculum
) -> tuple[State, TrainingLog] | None:
    """The arrays of these *names* and the log in *path*, after which the *curriculum* goes on from there.

    None, and nothing has changed, where the file is missing, broken or of another training.
    """
    try:
        stored, metadata = read_arrays(path, inside=path.parent)
        if metadata.get("identity") != identity:
            return None
        arrays = {name: stored[name] for name in names}
        log = TrainingLog(**parse_json(metadata["done"]))
        curriculum.resume(parse_json(metadata["curriculum"]))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return arrays, log
