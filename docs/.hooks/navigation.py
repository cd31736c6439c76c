"""The order of the pages: those named here first, by section, any other page at the end. A missing page is no mistake."""

from __future__ import annotations

from typing import Any

SECTIONS: dict[str, tuple[str, ...]] = {
    "Use it": (
        "start",
        "patterns",
        "data",
        "recipes",
        "sweeps",
        "candidates",
        "measures",
        "gates",
        "comparing",
        "report",
        "ci",
        "extending",
        "reference",
    ),
    "Engines": ("backends", "memory", "speed", "performance"),
    "The project": ("architecture", "design", "experiments", "status", "plan", "video_script"),
}


def on_files(files: Any, config: Any) -> Any:
    """Set the navigation to the pages that exist."""
    pages = {file.src_uri.removesuffix(".md") for file in files.documentation_pages()}
    nav: list[Any] = ["index.md"]
    for section, names in SECTIONS.items():
        nav.append({section: [f"{name}.md" for name in names if name in pages]})
    named = {"index", *(name for names in SECTIONS.values() for name in names)}
    rest = sorted(pages - named)
    config.nav = [*nav, *([{"More": [f"{name}.md" for name in rest]}] if rest else [])]
    return files
