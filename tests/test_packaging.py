"""What is built from this checkout holds what it should, and its page on a package index has links that lead somewhere.

With ENGRAM_DIST=FOLDER the files built there are looked at, as before a release; else they are built here, without network.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
SOURCES = {
    "adapters",
    "benchmarks",
    "conftest.py",
    "docs",
    "engram_bench",
    "patterns",
    "reports",
    "tests",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "PKG-INFO",
    "README.md",
    "SECURITY.md",
    "mkdocs.yml",
    "pyproject.toml",
    "requirements.lock",
    ".gitignore",
}
"""What the source archive has at its top: a checkout that can run its tests and build its pages."""


def build(target: str, source: Path, folder: Path) -> Path:
    if find_spec("hatchling") is None or find_spec("hatch_fancy_pypi_readme") is None:
        pytest.skip("needs hatchling and hatch-fancy-pypi-readme: pip install 'engram-bench[dev]'")
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return only(folder, "*.whl" if target == "wheel" else "*.tar.gz")


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel."""
    if built := os.environ.get("ENGRAM_DIST"):
        return zipfile.ZipFile(only(Path(built), "*.whl"))
    return zipfile.ZipFile(build("wheel", ROOT, tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the source archive unpacks to."""
    folder = tmp_path_factory.mktemp("sdist")
    built = os.environ.get("ENGRAM_DIST")
    archive = only(Path(built), "*.tar.gz") if built else build("sdist", ROOT, folder)
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return only(folder, "engram_bench-*/")


def files(folder: Path) -> set[str]:
    """Files below the folder, without what Python leaves behind."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in paths}


def contents(wheel: zipfile.ZipFile) -> set[str]:
    """Files of the package in the wheel, without the metadata beside it."""
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()


def test_the_wheel_has_the_package_and_the_shipped_patterns_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    package = {f"engram_bench/{name}" for name in files(ROOT / "engram_bench")}
    patterns = {f"engram_bench/shipped_patterns/{name}" for name in files(ROOT / "patterns")}

    assert contents(wheel) == package | patterns


@pytest.mark.parametrize(
    "name", ["py.typed", "ordinary_text.txt", "ordinary_prompts.txt", "report.html", "workflow.yml", "facts.yaml"]
)
def test_data_that_the_code_reads_is_in_the_wheel(wheel: zipfile.ZipFile, name: str) -> None:
    assert [path for path in wheel.namelist() if path.rsplit("/", 1)[-1] == name]


def test_the_wheel_declares_its_command_its_plugin_and_its_licence(wheel: zipfile.ZipFile) -> None:
    entry_points = metadata(wheel, "entry_points.txt")

    assert "engram-bench = engram_bench.cli:main" in entry_points
    assert "engram_bench.plugin = engram_bench.plugin" in entry_points
    assert metadata(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text("utf-8")


def test_the_source_archive_is_a_checkout_that_can_run_its_tests(unpacked: Path) -> None:
    assert {path.name for path in unpacked.iterdir()} == SOURCES
    for name in ("engram_bench", "tests", "patterns", "benchmarks"):
        assert files(unpacked / name) == files(ROOT / name)
    for name in ("adapters", "reports"):  # what sessions leave behind stays out
        assert files(unpacked / name) == {"README.md"}


def test_a_wheel_built_from_the_source_archive_is_the_same(
    wheel: zipfile.ZipFile, unpacked: Path, tmp_path: Path
) -> None:
    again = zipfile.ZipFile(build("wheel", unpacked, tmp_path))

    assert contents(again) == contents(wheel)


def test_links_and_images_of_the_page_hold_on_a_package_index(wheel: zipfile.ZipFile) -> None:
    _, _, page = metadata(wheel, "METADATA").partition("\n\n")
    version = metadata(wheel, "METADATA").partition("\nVersion: ")[2].partition("\n")[0]

    images, links = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page), re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", page)
    raw = REPOSITORY.replace("github.com", "raw.githubusercontent.com")
    assert len(images) >= 2
    assert [image for image in images if not image.startswith(f"{raw}/v{version}/docs/")] == []
    assert f"{REPOSITORY}/blob/v{version}/docs/start.md" in links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_what_the_page_links_to_is_in_the_checkout(wheel: zipfile.ZipFile) -> None:
    page = metadata(wheel, "METADATA")

    names = re.findall(r"\(https://[\w.]+/[\w-]+/[\w-]+/(?:blob/)?v[\d.]+/([^)#]+)", page)
    assert len(names) >= 10
    assert sorted(name for name in names if not (ROOT / name).exists()) == []


def test_every_address_of_the_project_is_the_one_repository() -> None:
    assert all(address.startswith(REPOSITORY) for address in PROJECT["urls"].values())


def test_every_python_version_that_is_declared_is_tested() -> None:
    declared = {text.rsplit(" ", 1)[-1] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)}
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")

    (matrix,) = re.findall(r"python: \[([^\]]+)\]", workflow)
    assert declared == set(re.findall(r"3\.\d+", matrix))
    assert PROJECT["requires-python"] == f">={min(declared)}"
