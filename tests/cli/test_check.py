"""``engram-bench check``."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.conftest import Shell


def test_good_files_are_counted(shell: Shell) -> None:
    output = shell("check")

    assert "patterns/facts.yaml  memory         2         2                 2" in output
    assert "no mistakes in 1 file" in output


def test_every_mistake_has_its_file_and_line(shell: Shell) -> None:
    shell.patterns("name: a\npatterns:\n  - {input: One?, output: 1}\n  - {input: Two?, output: ''}\n", "a.yaml")
    shell.patterns("name: b\n", "b.yaml")

    shell("check", status=2)

    assert "patterns/a.yaml:3: " in shell.errors
    assert "patterns/a.yaml:4: " in shell.errors
    assert "patterns/b.yaml:1: " in shell.errors
    assert shell.errors.endswith("3 mistakes\n")


def test_files_that_contradict_each_other_are_mistakes(shell: Shell) -> None:
    shell.patterns("name: more\npatterns:\n  - {input: Port of SSH?, output: '2222'}\n", "more.yaml")

    report = shell.json("check", status=2)

    (mistake,) = report["mistakes"]
    assert (mistake["path"], mistake["line"]) == ("patterns/more.yaml", 3)


def test_paths_take_the_place_of_the_setting(shell: Shell) -> None:
    other = shell.path / "other.yaml"
    other.write_text("name: other\npatterns:\n  - {input: One?, output: one}\n", "utf-8")

    report = shell.json("check", "other.yaml")

    assert [file["file"] for file in report["files"]] == ["other.yaml"]


def test_escapes_in_a_file_never_reach_the_terminal_raw(shell: Shell) -> None:
    shell.patterns('name: "a"\npatterns:\n  - {input: "\\e[2J?", output: ""}\n', "a.yaml")

    shell("check", status=2)

    assert "\x1b" not in shell.errors


def test_no_heavy_library_is_imported(shell: Shell) -> None:
    code = (
        "import sys; from engram_bench.cli import main; main(['check', '--backend=cpu']); "
        "print([m for m in ('torch', 'transformers', 'mlx', 'rich', 'scipy', 'numpy') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=shell.path, capture_output=True, text=True, check=True)

    assert done.stdout.endswith("[]\n")


def test_an_answer_beyond_its_limit_is_a_mistake(shell: Shell) -> None:
    shell.patterns("name: a\nmax_tokens: 3\npatterns:\n  - {input: One?, output: one}\n", "a.yaml")

    report = shell.json("check", status=2)

    (mistake,) = report["mistakes"]
    assert (mistake["path"], mistake["line"]) == ("patterns/a.yaml", 4)
    assert "max_tokens is 3, expected at least 4, which the answer 'one' takes" in mistake["message"]


def test_check_says_that_a_model_is_not_here_and_downloads_nothing(shell: Shell) -> None:
    output = shell("check", "--backend=cpu")

    assert "answers not counted in tokens: model smollm2-135m-instruct is not on this machine yet" in output
    assert "no such model" in shell("check", "--backend=cpu", "--model=nowhere")
