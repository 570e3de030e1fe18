"""The backward pass as torch/csrc/autograd/engine.cpp runs it: nodes in reverse order, leaves when they are ready."""

from __future__ import annotations

from collections.abc import Sequence
from sys import getrefcount
from typing import Any

from estimator.stack import moves
from estimator.stack.products import differentiate
from estimator.stack.tape import F32, Record, Tape, Tensor


def _sole_owner(x: Tensor, refs: int) -> bool:
    return not x.view and getrefcount(x) <= refs and getrefcount(x.st) <= 2


def _accumulate(t: Tape, target: Any, idx: int, g: Tensor) -> None:
    """InputBuffer::accumulate: in place where nobody else holds the first gradient."""
    held = target.grads[idx]
    if held is None:
        target.grads[idx] = g
        return
    if t.moves is not None:
        moves.accumulated(t, held, g)
    if not _sole_owner(held, 4):
        target.grads[idx] = t.alloc(g.n, held.w, "gradients, added")
        target.grads[idx].lay = moves.AFTER[held.lay]


def _reach(root: Any) -> list[Any]:
    """Every node below ``root``, latest first; counts for each how many gradients it waits for."""
    seen, stack, order = {id(root)}, [root], []
    while stack:
        node = stack.pop()
        order.append(node)
        for parent in node.ins:
            if parent is not None:
                parent.deps += 1
                if id(parent) not in seen:
                    seen.add(id(parent))
                    if not parent.leaf:
                        stack.append(parent)
    order.sort(key=lambda x: x.seq, reverse=True)
    return order


def _waiting(order: list[Any]) -> list[Record]:
    """Gradients that wait for their nodes and leaves: a layer takes them over, and leaves its own."""
    leaves = [parent for node in order for parent in node.ins if parent is not None and parent.leaf]
    return [g.st.record for node in (*order, *leaves) for g in node.grads if g is not None]


def _run(t: Tape, node: Any) -> None:
    if node.frame is not None and not node.frame.done:
        t.recompute(node.frame)
    t.where = node.where
    if node.work:
        differentiate(node)
    g = node.grads[0] if len(node.grads) == 1 else node.grads
    node.grads = ()
    back = t.keeper.bring(node) if t.keeper is not None else None
    outs = list(node.fn(t, node, g))
    if t.moves is not None:
        moves.backward(t, node, g, outs)
    g = None
    node.saved = node.frame = None  # what a checkpointed call was given lives as long as what it made of it
    if back:
        t.keeper.done(back)
        back = None
    ready = []
    for i, parent in enumerate(node.ins):
        if parent is None:
            continue
        out, outs[i] = outs[i], None
        if out is not None:
            _accumulate(t, parent, node.idxs[i], out)
        out = None
        parent.deps -= 1
        if parent.leaf and parent.deps == 0:
            ready.append(parent)
    for leaf in ready:
        _keep(t, leaf)


def _keep(t: Tape, leaf: Any) -> None:
    """AccumulateGrad: the first gradient is taken over where nobody else holds it, later ones are added to it."""
    g, leaf.grads = leaf.grads[0], [None]
    if g is None:
        return
    if g.w != leaf.w:
        moves.log(t, "gradient, converted", moved=leaf.n * (g.w + leaf.w))
        g = t.alloc(leaf.n, leaf.w, "gradient, converted")
    if leaf.held is None:  # else it is added to in place
        if getrefcount(g) > 2 or getrefcount(g.st) > 2:
            moves.log(t, "gradient, copied", moved=2 * leaf.n * leaf.w)
            g = t.alloc(leaf.n, leaf.w, "gradient, copied")
        leaf.held = g
    g = None
    if t.on_grad is not None and leaf.name:  # not of embeddings that are made to want a gradient
        t.on_grad(leaf)
    if leaf.update is not None:  # register_post_accumulate_grad_hook: the optimizer steps, the gradient goes
        made = t.alloc(leaf.update(leaf.n, leaf.w), 1, "update")
        del made
        leaf.held = None


def backward(
    t: Tape, loss: Tensor, segments: Sequence[tuple[int, int, Any]] = (), wrap: Any = None, given: Tensor | None = None
) -> None:
    """Run the backward pass from ``loss``, or from another output whose gradient is ``given``.

    ``segments``: (first seq, last seq, times) of repeated layers. ``wrap`` is told when the pass begins, enters and
    leaves a layer, and ends.
    """
    order = _reach(loss.node)
    loss.node.grads[0] = t.alloc(1, F32, "gradient of the loss") if given is None else given
    where, t.grad, t.differentiates = t.where, False, True
    waits = wrap is not None
    bounds = sorted(((low, high, times, i) for i, (low, high, times) in enumerate(segments)), reverse=True)
    outer: list[Any] | None = None
    inside: int | None = None
    low, times = 0, 1

    def leave() -> None:
        nonlocal outer, inside
        if t.keeper is not None:
            t.keeper.flush()
        if wrap is not None and inside is not None:
            wrap.leave_layer(inside)
        if outer is not None:
            outer.append((times, t.log))
            t.log, outer = outer, None
        inside, t.rounds = None, 1

    for node in order:
        seq = node.seq
        if waits and (wrap.end is None or seq <= wrap.end):
            wrap.before_backward()
            waits = False
        if inside is not None and seq <= low:
            leave()
        while bounds and inside is None and seq <= bounds[0][1]:
            low, _, times, key = bounds.pop(0)
            if seq > low:
                inside, t.rounds = key, times
                if t.keeper is not None:
                    t.keeper.flush()
                if times != 1:
                    t.carried += _waiting(order)
                    outer, t.log = t.log, []
                if wrap is not None:
                    wrap.enter_layer(key, times != 1)
        _run(t, node)
    leave()
    t.drop_graph()
    if wrap is not None:
        wrap.after_backward()
    t.where, t.grad, t.differentiates = where, True, False
