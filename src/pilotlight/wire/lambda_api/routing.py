"""From method and path to an operation of the Lambda API.

The URI templates of the model become one tree of path segments when the module is imported; a
lookup walks it once, whatever the number of operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from pilotlight.wire.lambda_model.operations import OPERATIONS


@dataclass(frozen=True, slots=True)
class Route:
    """A request's operation and the decoded labels of its path, by name in the template."""

    operation: str
    labels: Mapping[str, str]


@dataclass(slots=True)
class _Leaf:
    """One operation at the end of a path; ``query`` must be present for it to match."""

    operation: str
    names: tuple[str, ...]
    query: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Node:
    """One position in the tree; ``greedy`` takes all segments that are left."""

    literals: dict[str, _Node] = field(default_factory=dict)
    label: _Node | None = None
    greedy: _Node | None = None
    leaves: dict[str, list[_Leaf]] = field(default_factory=dict)


def _is_greedy(segment: str) -> bool:
    return segment.startswith("{") and segment.endswith("+}")


def _child(node: _Node, segment: str) -> _Node:
    if _is_greedy(segment):
        node.greedy = node.greedy or _Node()
        return node.greedy
    if segment.startswith("{"):
        node.label = node.label or _Node()
        return node.label
    return node.literals.setdefault(segment, _Node())


def _build() -> _Node:
    root = _Node()
    for operation, (method, uri, *_) in OPERATIONS.items():
        path, _, query = uri.partition("?")
        node = root
        names = []
        for segment in path.strip("/").split("/"):
            node = _child(node, segment)
            if segment.startswith("{"):
                names.append(segment.strip("{+}"))
        leaf = _Leaf(operation, tuple(names), tuple(parse_qsl(query, keep_blank_values=True)))
        node.leaves.setdefault(method, []).append(leaf)
    for leaf_list in _leaf_lists(root):
        # The operation with a fixed query is the special case of the one without.
        leaf_list.sort(key=lambda leaf: -len(leaf.query))
    return root


def _leaf_lists(node: _Node) -> Iterator[list[_Leaf]]:
    yield from node.leaves.values()
    children = [*node.literals.values(), node.label, node.greedy]
    for child in children:
        if child is not None:
            yield from _leaf_lists(child)


_ROOT = _build()


def _walk(node: _Node, segments: list[str], at: int, values: list[str]) -> _Node | None:
    """Find the node of a path; literals win over labels, labels over greedy ones."""
    if at == len(segments):
        return node if node.leaves else None
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None:
        found = _walk(literal, segments, at + 1, values)
        if found is not None:
            return found
    if node.label is not None and segment:
        values.append(segment)
        found = _walk(node.label, segments, at + 1, values)
        if found is not None:
            return found
        values.pop()
    if node.greedy is not None:
        values.append("/".join(segments[at:]))
        return node.greedy
    return None


def _find(path: str) -> tuple[_Node | None, list[str]]:
    values: list[str] = []
    if not path.startswith("/"):
        return None, values
    # Older models end some paths in a slash, and clients built from them still send it.
    segments = path[1:].removesuffix("/").split("/")
    return _walk(_ROOT, segments, 0, values), values


def route(method: str, path: str, query: str = "") -> Route | None:
    """Find the operation of a request.

    Args:
        method: upper case.
        path: raw path, still percent-encoded, without the query.
        query: raw query; two operations are told apart from their neighbours only by it
            (``GetLayerVersionByArn``, ``ListProvisionedConcurrencyConfigs``).

    Returns:
        The route, or None where no operation has this method and path; `allowed_methods` then
        tells a wrong method from a wrong path.
    """
    node, values = _find(path)
    if node is None:
        return None
    for leaf in node.leaves.get(method, ()):
        if not leaf.query or _has(query, leaf.query):
            # Undecodable bytes become U+FFFD, which no pattern of the model admits.
            labels = {name: unquote(value) for name, value in zip(leaf.names, values, strict=True)}
            return Route(leaf.operation, labels)
    return None


def _has(query: str, wanted: tuple[tuple[str, str], ...]) -> bool:
    pairs = parse_qsl(query, keep_blank_values=True)
    return all(pair in pairs for pair in wanted)


def allowed_methods(path: str) -> tuple[str, ...]:
    """Return the methods that some operation has at this path, sorted; () for an unknown path."""
    node, _ = _find(path)
    return tuple(sorted(node.leaves)) if node is not None else ()
