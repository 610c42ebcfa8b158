"""Recorded computations: what can be left out of them, done in place, or cut in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.passes.shape_prop import ShapeProp

aten = torch.ops.aten
IN_PLACE: dict[Any, Any] = {
    aten.relu.default: aten.relu_.default,
    aten.add.Tensor: aten.add_.Tensor,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.div.Tensor: aten.div_.Tensor,
    aten.neg.default: aten.neg_.default,
}
"""Elementwise operations -> the same, written over their first argument."""
OVER_GRADIENT: dict[Any, Any] = {
    aten.threshold_backward.default: aten.threshold_backward.grad_input,
    aten.gelu_backward.default: aten.gelu_backward.grad_input,
    aten.tanh_backward.default: aten.tanh_backward.grad_input,
    aten.sigmoid_backward.default: aten.sigmoid_backward.grad_input,
}
"""Elementwise backward passes -> the same, which can be written over their first argument."""
VIEWS = (aten.view.default, aten.permute.default, aten.expand.default, aten._unsafe_view.default)


def tidied(module: GraphModule, arguments: Sequence[Tensor]) -> GraphModule:
    """The recorded computation without views that change nothing, and in place where nobody looks.

    arguments: tensors (whose values it may write to) of the shapes that it was recorded for.
    """
    with torch.no_grad():
        ShapeProp(module).propagate(*arguments)
    for node in list(module.graph.nodes):
        if _changes_nothing(node):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    owners: set[Node] = set()
    for node in list(module.graph.nodes):
        _reuse_memory(node, owners)
    module.recompile()
    return module


def split_at(
    module: GraphModule, placeholder: int
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The computation before and after one input, the last of them, is known.

    The module answers (early outputs, late outputs). The first part takes all inputs but that one
    and answers the early outputs, followed by what the second part needs; that part takes these and
    the input, and answers the late outputs.
    """
    nodes: list[Node] = list(module.graph.nodes)
    inputs = [node for node in nodes if node.op == "placeholder"]
    known_late = inputs[placeholder]
    outputs: Any = nodes[-1].args[0]
    early_outputs, late_outputs = map(list, outputs)
    late = {known_late}
    for node in nodes[:-1]:
        if late.intersection(node.all_input_nodes):
            late.add(node)
    needed = {value for node in late for value in node.all_input_nodes} | set(late_outputs)
    kept = [node for node in nodes if node in needed and node not in late]
    before = [node for node in nodes[:-1] if node not in late]
    after = [node for node in nodes[:-1] if node in late and node is not known_late]
    return (
        _part(module, [], before, [*early_outputs, *kept]),
        _part(module, [*kept, known_late], after, late_outputs),
    )


def _part(
    module: GraphModule, given: Sequence[Node], nodes: Sequence[Node], outputs: Sequence[Node]
) -> Callable[..., Any]:
    """Some nodes of a graph, with these values as inputs."""
    graph, copies = Graph(), {}
    for node in given:
        copies[node] = graph.placeholder(node.name)
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in outputs))
    return GraphModule(module, graph).forward


def _changes_nothing(node: Node) -> bool:
    if node.target is aten.detach.default:
        return True
    if node.target is aten.add.Tensor and not node.kwargs:
        zeros: Any = node.args[1]
        alone = isinstance(zeros, Node) and len(zeros.users) == 1
        return (
            alone
            and zeros.target is aten.new_zeros.default
            and _layout(node) == _layout(node.args[0])
        )
    return node.target in VIEWS and _layout(node) == _layout(node.args[0])


def _layout(value: Any) -> tuple[Any, ...]:
    """Shape, strides and type of what a node computes; of nothing else."""
    meta = value.meta.get("tensor_meta") if isinstance(value, Node) else None
    return (value,) if meta is None else (meta.shape, meta.stride, meta.dtype)


def _reuse_memory(node: Node, owners: set[Node]) -> None:
    """Write an elementwise result over an argument that nobody needs afterwards.

    owners: nodes already seen to answer with memory of their own, though they write in place.
    """
    if node.target in OVER_GRADIENT and _free(node.args[0], node, owners):
        node.kwargs = {**node.kwargs, "grad_input": node.args[0]}
        node.target = OVER_GRADIENT[node.target]
        owners.add(node)
    elif node.target in IN_PLACE:
        sums = node.target is aten.add.Tensor and not node.kwargs
        if sums and not _free(node.args[0], node, owners):
            node.args = node.args[::-1]  # a sum is the same in either order
        if _free(node.args[0], node, owners):
            node.target = IN_PLACE[node.target]
            owners.add(node)


def _free(value: Any, reader: Node, owners: set[Node]) -> bool:
    """Whether a value is memory of its own, laid out like the reader's result, for it alone."""
    if not isinstance(value, Node) or value.op != "call_function" or len(value.users) != 1:
        return False
    schema = getattr(value.target, "_schema", None)
    own = schema is not None and all(one.alias_info is None for one in schema.returns)
    if not own and value not in owners:
        return False
    return reader.args.count(value) == 1 and _layout(value) == _layout(reader)
