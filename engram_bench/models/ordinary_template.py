"""Which chat templates are ordinary: by their syntax alone they cannot take more time or memory than their length allows.

Such a template needs no process of its own. It loops over the given messages and nowhere else, one loop deep, and puts together
constants and what it was given; a value that it keeps is never made of kept values, so nothing grows. Anything else, as harmless
as it may be, is not ordinary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from jinja2.nodes import Node

MAX_SOURCE = 20_000
"""Longest source that is looked at, in characters."""
_FILTERS = {"trim", "length", "upper", "lower", "string", "default"}
_METHODS = {"strip", "lstrip", "rstrip", "startswith", "endswith", "split"}
_PLAIN = {
    *("Template", "Output", "TemplateData", "Const", "Name", "Getitem", "Getattr", "Slice"),
    *("Compare", "Operand", "And", "Or", "Not", "CondExpr", "Add", "Concat", "If"),
}


def ordinary_template(environment: Environment, source: str) -> Template | None:
    """The compiled template; None where it is not ordinary or has a mistake."""
    from jinja2 import TemplateError

    if len(source) > MAX_SOURCE:
        return None
    try:
        tree = environment.parse(source)
        return environment.from_string(source) if _is_ordinary(tree, frozenset(), in_loop=False) else None
    except (TemplateError, RecursionError):
        return None


def _is_ordinary(node: Node, kept: frozenset[str], *, in_loop: bool) -> bool:
    """Whether a node and all below it are ordinary; *kept* are the names that ``set`` has given so far."""
    kind = type(node).__name__
    rule: Callable[[Any, frozenset[str]], bool] | None = _RULES.get(kind)
    if (
        (kind == "For" and in_loop)
        or (kind not in _PLAIN and rule is None)
        or (rule is not None and not rule(node, kept))
    ):
        return False
    inside = in_loop or kind == "For"
    return all(_is_ordinary(child, kept | _set_in(node), in_loop=inside) for child in node.iter_child_nodes())


def _set_in(node: Node) -> frozenset[str]:
    """Every name that is kept anywhere below this node, before or after: a loop comes back to it."""
    from jinja2 import nodes

    if not isinstance(node, nodes.Template):
        return frozenset()
    targets = [each.target for each in node.find_all(nodes.Assign)]
    return frozenset(target.name for target in targets if isinstance(target, nodes.Name))


def _loops_over_messages(node: Any, kept: frozenset[str]) -> bool:
    from jinja2 import nodes

    over = (
        node.iter.node if isinstance(node.iter, nodes.Getitem) and isinstance(node.iter.arg, nodes.Slice) else node.iter
    )
    return isinstance(over, nodes.Name) and over.name == "messages" and "messages" not in kept and not node.recursive


def _keeps_no_kept_value(node: Any, kept: frozenset[str]) -> bool:
    """Whether a kept value is one thing that was given or kept, or is put together of given things alone."""
    from jinja2 import nodes

    if not isinstance(node.target, nodes.Name):
        return False
    joins = isinstance(node.node, nodes.Add | nodes.Concat) or node.node.find((nodes.Add, nodes.Concat)) is not None
    return not joins or not any(name.name in kept for name in _names(node.node))


def _names(node: Any) -> list[Any]:
    from jinja2 import nodes

    return [*([node] if isinstance(node, nodes.Name) else []), *node.find_all(nodes.Name)]


def _is_remainder_of_loop(node: Any, kept: frozenset[str]) -> bool:
    from jinja2 import nodes

    left = node.left
    is_index = isinstance(left, nodes.Getattr) and isinstance(left.node, nodes.Name) and left.node.name == "loop"
    return is_index and isinstance(node.right, nodes.Const) and isinstance(node.right.value, int)


def _is_plain_call(node: Any, kept: frozenset[str]) -> bool:
    """Whether a call is of ``raise_exception``, or of a method of a text with constants."""
    from jinja2 import nodes

    if node.kwargs or node.dyn_args or node.dyn_kwargs:
        return False
    if isinstance(node.node, nodes.Name):
        return node.node.name == "raise_exception" and "raise_exception" not in kept
    is_method = isinstance(node.node, nodes.Getattr) and node.node.attr in _METHODS
    return is_method and all(isinstance(each, nodes.Const) for each in node.args)


def _is_plain_filter(node: Any, kept: frozenset[str]) -> bool:
    return node.name in _FILTERS and not node.kwargs and len(node.args) <= 1


def _is_plain_test(node: Any, kept: frozenset[str]) -> bool:
    return not node.args and not node.kwargs


def _has_constants(node: Any, kept: frozenset[str]) -> bool:
    from jinja2 import nodes

    return all(isinstance(item, nodes.Const) for item in node.items)


_RULES: dict[str, Callable[[Any, frozenset[str]], bool]] = {
    "For": _loops_over_messages,
    "Assign": _keeps_no_kept_value,
    "Mod": _is_remainder_of_loop,
    "Call": _is_plain_call,
    "Filter": _is_plain_filter,
    "Test": _is_plain_test,
    "List": _has_constants,
    "Tuple": _has_constants,
}
