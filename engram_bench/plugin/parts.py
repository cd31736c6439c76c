"""Parts of the plugin by name, each imported when it is first called.

Every pytest start in an environment with this plugin imports the hooks. A project without pattern files never needs more, so
hooks reach everything else through :func:`part`, and the modules named here import what they need at their top.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

PARTS = {
    "session": "engram_bench.plugin.session:BenchSession",
    "bench": "engram_bench.plugin.opening:open_bench",
    "collect": "engram_bench.plugin.collection:collect",
    "parametrize": "engram_bench.plugin.collection:parametrize",
    "side": "engram_bench.plugin.asking:AskableSide",
    "summary": "engram_bench.plugin.summary:summarise",
    "properties": "engram_bench.plugin.ci:add_properties",
    "extras": "engram_bench.plugin.ci:add_extras",
    "gates": "engram_bench.scoring.gates:session_gates",
    "find_run": "engram_bench.runs.store:find_run",
    "speed_figures": "engram_bench.scoring.speed:summarise",
}
"""Name → ``module:attribute``."""


def part(name: str) -> Any:
    """The part of this name, with its module imported."""
    module, _, attribute = PARTS[name].partition(":")
    return getattr(import_module(module), attribute)
