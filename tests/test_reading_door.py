"""Every file that may come from elsewhere is read through one module, which has the bounds."""

from __future__ import annotations

import ast
from pathlib import Path

import engram_bench

PACKAGE = Path(engram_bench.__file__).parent
DOOR = "system/reading.py"
READERS = {"read_text", "read_bytes"}
"""Methods of a path that read a whole file, whatever it is."""
LIBRARIES = {
    "load_file": "safetensors",
    "safe_open": "safetensors",
    "deserialize": "safetensors",
    "from_file": "tokenizers",
    "GGUFReader": "gguf",
    "memmap": "numpy",
    "loadtxt": "numpy",
    "fromfile": "numpy",
    "safe_load": "yaml",
    "safe_load_all": "yaml",
    "load_all": "yaml",
    "compose": "yaml",
    "unpickle": "pickle",
}
"""Functions of libraries that open a file themselves, or read a text without bounds."""
CHECKED_BEFORE = {
    ("backends/torch/llama/files.py", "safe_open"): "resolve_model has checked every header of the folder",
}
"""Libraries that get a path which was checked in the lines before."""
OWN_FILES = {
    ("cli/init.py", "open"): "the project's own files, extended in place",
    ("cli/__init__.py", "open"): "os.devnull",
    ("system/files.py", "open"): "files and folders to be flushed, and new files",
    ("models/rendering.py", "loads"): "an answer of the package's own process",
    ("models/template_worker.py", "loads"): "a request of the package itself",
    ("backends/server/replies.py", "loads"): "an answer of a server, bounded by its connection",
}
"""Calls that read nothing of others."""


def is_packaged(node: ast.expr) -> bool:
    """Whether an expression names a file inside the package itself."""
    text = ast.unparse(node)
    return "resources.files" in text or "Path(__file__)" in text or text.startswith("templates.joinpath(")


def mode_of(call: ast.Call) -> str | None:
    """The mode that a call of ``open`` states; None where it states none."""
    modes = [argument for argument in call.args if isinstance(argument, ast.Constant)]
    modes += [word.value for word in call.keywords if word.arg == "mode" and isinstance(word.value, ast.Constant)]
    return next((str(mode.value) for mode in modes if set(str(mode.value)) <= set("rwxabt+")), None)


def readings(path: Path) -> list[tuple[str, int]]:
    """Each call of a file that reads a file or JSON past the door: what is called, and its line."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            owner, name = None, node.func.id
        elif isinstance(node.func, ast.Attribute):
            owner, name = node.func.value, node.func.attr
        else:
            continue
        mode = mode_of(node)
        is_reading = (
            (owner is not None and name in READERS and not is_packaged(owner))
            or (owner is None and name == "open")
            or (name == "open" and owner is not None and ast.unparse(owner) in ("os", "io"))
            or (name == "open" and owner is not None and mode is not None and ("r" in mode or "+" in mode))
            or (
                name in ("load", "loads")
                and owner is not None
                and ast.unparse(owner) in ("json", "tomllib", "yaml", "np")
            )
            or name in LIBRARIES
        )
        if is_reading and not (name == "loads" and owner is not None and ast.unparse(owner) == "tomllib"):
            found.append((name, node.lineno))
    return found


def test_no_reader_goes_around_the_door() -> None:
    allowed = CHECKED_BEFORE.keys() | OWN_FILES.keys()
    around = [
        f"{file}:{line}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if (file := path.relative_to(PACKAGE).as_posix()) != DOOR
        for name, line in readings(path)
        if (file, name) not in allowed
    ]

    assert around == []


def test_every_exception_is_still_one() -> None:
    used = {
        (path.relative_to(PACKAGE).as_posix(), name) for path in PACKAGE.rglob("*.py") for name, _ in readings(path)
    }

    assert CHECKED_BEFORE.keys() | OWN_FILES.keys() <= used


def test_what_goes_around_the_door_is_seen(tmp_path: Path) -> None:
    code = "open('x')\np.open('rb')\np.read_text()\njson.loads(t)\nload_file(p)\nos.open(p, 0)\ncandidate.open()\n"
    (tmp_path / "a.py").write_text(code)

    assert [line for _, line in readings(tmp_path / "a.py")] == [1, 2, 3, 4, 5, 6]
