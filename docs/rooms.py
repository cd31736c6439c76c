"""Measure the package by its own imports and draw its rooms, storey by storey.

``python docs/rooms.py`` prints the figures, ``--svg FILE`` draws the picture, ``--svg FILE --check`` compares a picture
with the code. Only the standard library is needed, nothing of the package is imported, and no room is known by name.

- A *room* is a folder or module at the top of the package. The package's own ``__init__`` and ``__main__`` are no rooms.
- An *arrow* leads from a room to a room that one of its modules imports. Imports inside functions and imports for type
  checkers alone count like any other. Names that are put together at run time (``import_module``) do not count.
- The *storey* of a room is the length of its longest way down: 1 imports no other room. Rooms that import each other in
  a circle share one storey, so an arrow within a storey is always part of a circle.
- A module's imports are the modules it names; that Python also runs the ``__init__`` of the folders above is left out.
- Lines are those of the files, comments and blank lines included. The lines of a function or method run from its ``def``
  to its end, docstring included and decorators left out; nested functions count in themselves and in the outer one.
"""

from __future__ import annotations

import argparse
import ast
import math
import re
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import pairwise
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "engram_bench"
LONG = 300
"""A module of more lines is named."""

Arrow = tuple[str, str]


@dataclass(frozen=True)
class Package:
    """What the source files of a package say about its building."""

    name: str
    trees: Mapping[str, ast.Module]
    """Module → its syntax tree."""
    lines: Mapping[str, int]
    """Module → lines of its file."""
    folders: frozenset[str]
    """Modules that are folders: their own module is an ``__init__``."""

    def room(self, module: str) -> str | None:
        """The room that a module stands in; None for the package's own ``__init__`` and ``__main__``."""
        parts = module.split(".")
        return parts[1] if len(parts) > 1 and parts[1] != "__main__" else None

    @cached_property
    def rooms(self) -> dict[str, int]:
        """Room → lines of all its modules."""
        counted: Counter[str] = Counter()
        for module, lines in self.lines.items():
            if room := self.room(module):
                counted[room] += lines
        return dict(counted)

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Module → modules of the package that it imports, itself left out."""
        return {
            module: {name for node in ast.walk(tree) for name in self._imported(module, node)} - {module}
            for module, tree in self.trees.items()
        }

    @cached_property
    def arrows(self) -> set[Arrow]:
        """Pairs of rooms of which the first imports the second."""
        pairs = {(self.room(module), self.room(name)) for module, names in self.imports.items() for name in names}
        return {(start, end) for start, end in pairs if start and end and start != end}

    @property
    def level_arrows(self) -> list[Arrow]:
        """Arrows between two rooms of one storey."""
        level = storeys(self.rooms, self.arrows)
        return sorted((start, end) for start, end in self.arrows if level[start] == level[end])

    @property
    def cycles(self) -> list[tuple[str, ...]]:
        """Modules that import each other in a circle, each circle's modules by name."""
        return sorted(group for group in circles(self.imports) if len(group) > 1)

    @property
    def local_imports(self) -> dict[str, int]:
        """Room → import statements inside its functions that name modules of the package."""
        counted: Counter[str] = Counter()
        for module, tree in self.trees.items():
            inside = {node for function in _functions(tree) for node in ast.walk(function)}
            found = sum(any(True for _ in self._imported(module, node)) for node in inside)
            if found:
                counted[self.room(module) or module] += found
        return dict(counted)

    @property
    def long_modules(self) -> dict[str, int]:
        """Modules of more than :data:`LONG` lines, the longest first."""
        by_length = sorted(self.lines.items(), key=lambda item: (-item[1], item[0]))
        return {module: lines for module, lines in by_length if lines > LONG}

    @property
    def function_lines(self) -> list[int]:
        """Lines of every function and method, from its ``def`` to its end."""
        functions = (function for tree in self.trees.values() for function in _functions(tree))
        return [(function.end_lineno or function.lineno) - function.lineno + 1 for function in functions]

    @property
    def twins(self) -> dict[str, list[str]]:
        """Names of classes that are defined more than once → the modules that define them."""
        homes = defaultdict(list)
        for module, tree in sorted(self.trees.items()):
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    homes[node.name].append(module)
        return {name: modules for name, modules in sorted(homes.items()) if len(modules) > 1}

    def _imported(self, module: str, node: ast.AST) -> Iterator[str]:
        """Modules of the package that an import statement names; nothing for any other node."""
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in self.trees)
        elif isinstance(node, ast.ImportFrom):
            source = self._source(module, node)
            if source in self.trees:
                names = (f"{source}.{alias.name}" for alias in node.names)
                yield from {name if name in self.trees else source for name in names}

    def _source(self, module: str, node: ast.ImportFrom) -> str:
        """The full name after ``from``, with the dots of a relative import resolved."""
        if not node.level:
            return node.module or ""
        up = node.level - (module in self.folders)
        parts = module.split(".")
        return ".".join([*parts[: len(parts) - up], *filter(None, [node.module])])


def measure(folder: Path) -> Package:
    """Read every module below *folder*, the package's folder."""
    trees, lines, folders = {}, {}, set()
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        if parts[-1] == "__init__":
            folders.add(module)
        text = path.read_text("utf-8")
        trees[module], lines[module] = ast.parse(text), len(text.splitlines())
    return Package(folder.name, trees, lines, frozenset(folders))


def _functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def circles(ways: Mapping[str, Iterable[str]]) -> list[tuple[str, ...]]:
    """Groups of nodes that lead to each other, those without ways out first; a node in no circle is a group of one.

    Source: Tarjan (1972), SIAM Journal on Computing 1, 146–160.
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[tuple[str, ...]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(ways.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            cut = stack.index(node)
            groups.append(tuple(sorted(stack[cut:])))
            del stack[cut:]

    for node in sorted(ways):
        if node not in index:
            visit(node)
    return groups


def storeys(rooms: Iterable[str], arrows: Iterable[Arrow]) -> dict[str, int]:
    """Room → storey, from 1 up."""
    below: dict[str, set[str]] = {room: set() for room in rooms}
    for start, end in arrows:
        below[start].add(end)
    level: dict[str, int] = {}
    for group in circles(below):  # a group comes after every group that it leads to
        floor = max((level[end] for room in group for end in below[room] if end not in group), default=0)
        level.update(dict.fromkeys(group, floor + 1))
    return level


def figures(package: Package) -> Iterator[tuple[str, object]]:
    """What is printed, line by line."""
    level = storeys(package.rooms, package.arrows)
    lengths = sorted(package.function_lines)
    entries = (package.name, f"{package.name}.__main__")
    yield "top-level names", len(package.rooms) + sum(name in package.trees for name in entries)
    yield "rooms", len(package.rooms)
    yield "room pairs that import", len(package.arrows)
    yield "storeys", max(level.values(), default=0)
    yield "import cycles between modules", _counted(" ⇄ ".join(cycle) for cycle in package.cycles)
    yield "imports between rooms of one storey", _counted(f"{a} → {b}" for a, b in package.level_arrows)
    yield "function-local imports of own modules", sum(package.local_imports.values())
    yield f"modules over {LONG} lines", _counted(f"{name} {lines}" for name, lines in package.long_modules.items())
    yield "lines of all modules", sum(package.lines.values())
    yield "functions and methods", len(lengths)
    if lengths:
        yield "lines of a function, median", f"{statistics.median(lengths):g}"
        yield "lines of a function, 9 in 10 at most", lengths[math.ceil(0.9 * len(lengths)) - 1]
    yield "class names defined twice", _counted(f"{name} ({', '.join(homes)})" for name, homes in package.twins.items())
    yield "rooms by storey, from the top", ""
    for storey in sorted(set(level.values()), reverse=True):
        yield f"  {storey}", "  ".join(sorted(room for room in level if level[room] == storey))


def _counted(names: Iterable[str]) -> str:
    listed = list(names)
    return f"{len(listed)}: {'; '.join(listed)}" if listed else "0"


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, or draw or check the picture; 1 if the picture is not the code's."""
    parser = argparse.ArgumentParser(description="Measure the package by its imports and draw its rooms.")
    parser.add_argument("--package", type=Path, default=PACKAGE, metavar="DIR", help="Default: engram_bench.")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="Draw the rooms here.")
    parser.add_argument(
        "--check", action="store_true", help="Draw nothing: compare rooms and arrows of FILE with the code."
    )
    args = parser.parse_args(arguments)
    package = measure(args.package)
    if args.svg is None:
        for name, value in figures(package):
            print(f"{name:<40} {value}".rstrip())
        return 0
    picture = draw(package)
    if not args.check:
        args.svg.write_text(picture, "utf-8")
    elif not args.svg.exists() or _without_lines(args.svg.read_text("utf-8")) != _without_lines(picture):
        print(f"{args.svg}: drawn from other imports; draw it with: make rooms", file=sys.stderr)
        return 1
    return 0


def _without_lines(picture: str) -> str:
    """The picture without the counts of lines: they change with every commit, rooms and arrows do not."""
    return re.sub(r'(class="lines"[^>]*>)[^<]*', r"\1", picture)


# The picture: boxes in rows, a row for each storey. An arrow that passes a row on its way has a bend there, which takes up
# room between the boxes as they do; boxes and bends are both called spots.

ROW, BOX, GAP, MARGIN = 78, 40, 16, 44
STYLE = """\
text { font: 14px system-ui, sans-serif; text-anchor: middle; fill: #123; }
.lines { font-size: 11px; fill: #567; }
.paper { fill: #fff; }
.room { fill: #eef6f5; stroke: #2a7f78; }
.arrow { fill: none; stroke: #2a7f78; stroke-opacity: 0.55; }
.circle { fill: none; stroke: #c02626; stroke-width: 2; }"""


def draw(package: Package) -> str:
    """The rooms as an SVG picture; an arrow that a longer way implies is left out."""
    level = storeys(package.rooms, package.arrows)
    ways = {arrow: _spots(*arrow, level) for arrow in sorted(_needed(package.arrows, level))}
    rows = _ordered(level, ways)
    across = _middles(rows, ways)
    left = min(x - _width(spot) / 2 for spot, x in across.items()) - MARGIN
    width = max(x + _width(spot) / 2 for spot, x in across.items()) + MARGIN - left
    height = ROW * len(rows) + MARGIN / 2
    place = {
        spot: (across[spot] - left, height - MARGIN / 4 - ROW * (row + 0.5))
        for row, spots in enumerate(rows)
        for spot in spots
    }
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
            f"<title>The rooms of {escape(package.name)}, each above the rooms it imports</title>",
            f"<style>\n{STYLE}\n</style>",
            f'<rect class="paper" width="{width:.0f}" height="{height:.0f}" rx="8"/>',
            *(_line([place[spot] for spot in way], *arrow) for arrow, way in ways.items()),
            *(_bow(place[start], place[end], start, end) for start, end in package.level_arrows),
            *(_box(room, package.rooms[room], *place[room]) for room in sorted(package.rooms)),
            "</svg>\n",
        ]
    )


def _needed(arrows: Iterable[Arrow], level: Mapping[str, int]) -> set[Arrow]:
    """Arrows to lower storeys that no longer way implies."""
    below: dict[str, set[str]] = defaultdict(set)
    for start, end in arrows:
        if level[start] > level[end]:
            below[start].add(end)
    reached: dict[str, set[str]] = {}
    for room in sorted(level, key=level.__getitem__):
        reached[room] = below[room].union(*(reached[end] for end in below[room]))
    return {
        (start, end) for start, ends in below.items() for end in ends if not any(end in reached[via] for via in ends)
    }


def _spots(start: str, end: str, level: Mapping[str, int]) -> list[str]:
    """What an arrow passes: its first box, a bend in each row between, its last box."""
    return [start, *(f"{start}>{end}>{row}" for row in range(level[start] - 1, level[end], -1)), end]


def _width(spot: str) -> float:
    return 8 if ">" in spot else max(64, 8.4 * len(spot) + 20)


def _beside(ways: Mapping[Arrow, list[str]], *, below: bool) -> dict[str, list[str]]:
    """Spot → the spots that its lines reach in the row below, or in the row above."""
    reached = defaultdict(list)
    for way in ways.values():
        for upper, lower in pairwise(way):
            spot, other = (upper, lower) if below else (lower, upper)
            reached[spot].append(other)
    return reached


def _ordered(level: Mapping[str, int], ways: Mapping[Arrow, list[str]]) -> list[list[str]]:
    """The spots of each row from the lowest up, ordered so that few lines cross.

    Source: Sugiyama, Tagawa and Toda (1981), IEEE Transactions on Systems, Man, and Cybernetics 11, 109–125.
    """
    rows: list[list[str]] = [[] for _ in range(max(level.values(), default=0))]
    for room in sorted(level):
        rows[level[room] - 1].append(room)
    for (start, _), way in ways.items():
        for steps, spot in enumerate(way[1:-1], 1):
            rows[level[start] - 1 - steps].append(spot)
    down, up = _beside(ways, below=True), _beside(ways, below=False)
    tries = [rows]
    for _ in range(12):
        rows = _swept(rows, down)
        tries.append(rows)
        rows = _swept(rows[::-1], up)[::-1]
        tries.append(rows)
    return min(tries, key=lambda rows: _crossings(rows, down))


def _swept(rows: list[list[str]], beside: Mapping[str, list[str]]) -> list[list[str]]:
    """Each row but the first ordered by where its lines lead in the row before."""
    swept = rows[:1]
    for row in rows[1:]:
        at = {spot: index / len(swept[-1]) for index, spot in enumerate(swept[-1])}
        aim = {
            spot: statistics.fmean(at[other] for other in beside[spot]) if beside.get(spot) else index / len(row)
            for index, spot in enumerate(row)
        }
        swept.append(sorted(row, key=aim.__getitem__))
    return swept


def _crossings(rows: list[list[str]], down: Mapping[str, list[str]]) -> int:
    crossings = 0
    for lower, upper in pairwise(rows):
        at = {spot: index for index, spot in enumerate(lower)}
        ends = [sorted(at[other] for other in down.get(spot, ())) for spot in upper]
        crossings += sum(a > b for i, left in enumerate(ends) for right in ends[i + 1 :] for a in left for b in right)
    return crossings


def _middles(rows: list[list[str]], ways: Mapping[Arrow, list[str]]) -> dict[str, float]:
    """Spot → its middle from left to right, near the middles of what its lines reach."""
    down, up = _beside(ways, below=True), _beside(ways, below=False)
    middle: dict[str, float] = {}
    for row in rows:
        middle.update(_spaced(row, dict.fromkeys(row, 0.0)))
    for _ in range(12):
        for beside, order in ((down, rows), (up, rows[::-1])):
            for row in order:
                wanted = {spot: statistics.fmean(middle[other] for other in beside.get(spot, (spot,))) for spot in row}
                middle.update(_spaced(row, wanted))
    return middle


def _spaced(row: list[str], wanted: Mapping[str, float]) -> dict[str, float]:
    """The wanted middles, moved as little as keeps the spots apart: neighbours that would touch move as one block.

    Source: pool adjacent violators, Ayer et al. (1955), The Annals of Mathematical Statistics 26, 641–647.
    """
    shifts, shift = [0.0], 0.0
    for left, right in pairwise(row):
        shift += (_width(left) + _width(right)) / 2 + GAP
        shifts.append(shift)
    blocks: list[list[float]] = []
    for spot, offset in zip(row, shifts, strict=True):
        blocks.append([wanted[spot] - offset])
        while len(blocks) > 1 and statistics.fmean(blocks[-2]) > statistics.fmean(blocks[-1]):
            last = blocks.pop()
            blocks[-1].extend(last)
    starts = [statistics.fmean(block) for block in blocks for _ in block]
    return {spot: start + offset for spot, start, offset in zip(row, starts, shifts, strict=True)}


def _line(points: list[tuple[float, float]], start: str, end: str) -> str:
    """A thin line down from box to box, upright where it leaves a row."""
    (x, y), *bends = points
    y += BOX / 2
    path = f"M{x:.0f},{y:.0f}"
    for index, (to_x, to_y) in enumerate(bends, 1):
        arrives = to_y - BOX / 2
        half = (y + arrives) / 2
        path += f" C{x:.0f},{half:.0f} {to_x:.0f},{half:.0f} {to_x:.0f},{arrives:.0f}"
        if index < len(bends):
            path += f" V{to_y + BOX / 2:.0f}"
        x, y = to_x, to_y + BOX / 2
    return f'<path class="arrow" d="{path}"><title>{escape(start)} imports {escape(end)}</title></path>'


def _bow(place: tuple[float, float], to: tuple[float, float], start: str, end: str) -> str:
    """An arrow within a storey."""
    (x, y), (to_x, to_y) = place, to
    path = f"M{x:.0f},{y - BOX / 2:.0f} Q{(x + to_x) / 2:.0f},{y - 1.4 * BOX:.0f} {to_x:.0f},{to_y - BOX / 2:.0f}"
    return f'<path class="circle" d="{path}"><title>{escape(start)} imports {escape(end)}</title></path>'


def _box(room: str, lines: int, x: float, y: float) -> str:
    width = _width(room)
    return (
        f'<rect class="room" x="{x - width / 2:.0f}" y="{y - BOX / 2:.0f}" width="{width:.0f}" height="{BOX}" rx="5"/>'
        f'<text x="{x:.0f}" y="{y - 2:.0f}">{escape(room)}'
        f'<tspan class="lines" x="{x:.0f}" dy="15">{lines}</tspan></text>'
    )


if __name__ == "__main__":
    raise SystemExit(main())
