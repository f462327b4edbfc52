"""Exercises of notebook 09: notes."""

from __future__ import annotations

from typing import Any

from tlkit.course.checks import NotYet, as_network, boundary_of, check_output, exercise
from tlkit.graph.network import Network

__all__: list[str] = []


@exercise("09.1", "the names of the layers that n_out_replace('0', 3) draws anew in the chain '0', '2', '4'.")
def drawn_anew(answer: Any) -> str:
    names = {str(name) for name in ([answer] if isinstance(answer, (str, int)) else answer)}
    if names == {"0", "2"}:
        return "'0' has another width, and '2', which it feeds, another number of inputs."
    if "4" in names:
        missing = "'4' reads what '2' answers, and the width of '2' stays. Its weights stay too."
    elif "2" not in names:
        missing = "'0' is not alone: the layer that it feeds has another number of inputs."
    else:
        missing = "the layer whose width is replaced is drawn anew itself."
    raise NotYet(missing)


@exercise("09.2", "the network `trainable`, its boundary kept, the weights of its head drawn anew by 'relu'.")
def head_drawn_anew(answer: Any, trainable_before: Network) -> str:
    net = as_network(answer)
    if net is trainable_before:
        missing = "this is the network itself. A build returns a new one: tl.TransferLearning(trainable)...build()."
        raise NotYet(missing)
    check_output(net, trainable_before.vertices[trainable_before.outputs[0]].module.out_features)
    if net.frozen != trainable_before.frozen:
        missing = "its frozen marks are not those of `trainable`. They are kept when no boundary is set."
        raise NotYet(missing)
    head, old = (which.vertices[which.outputs[0]].module.weight for which in (net, trainable_before))
    if head.shape == old.shape and bool((head == old).all()):
        missing = "the head still has its old weights. n_out_replace with the same width draws them anew."
        raise NotYet(missing)
    spread, expected = float(head.detach().std()), (2 / head.shape[1]) ** 0.5
    if not 0.8 < spread / expected < 1.25:
        missing = f"the weights spread by {spread:.3f}, the scheme 'relu' by {expected:.3f}. Say weight_init='relu'."
        raise NotYet(missing)
    return "the same graph and the same frozen marks, with a head that knows nothing yet."


@exercise("09.3", "from net: 256 outputs at places.hidden, a new head, and frozen is all that was not drawn anew.")
def nothing_random_frozen(answer: Any, net: Network, flowers: Any) -> str:
    narrow = as_network(answer)
    hidden = net.landmarks.hidden
    if hidden not in narrow.vertices:
        missing = f"'{hidden}' is gone. Keep it, and replace its number of outputs."
        raise NotYet(missing)
    width = narrow.output_shapes()[hidden][0]
    if width != 256:
        missing = f"'{hidden}' has {width:,} outputs. Say n_out_replace('{hidden}', 256)."
        raise NotYet(missing)
    check_output(narrow, len(flowers.classes))
    boundary = boundary_of(narrow)
    if hidden in narrow.frozen:
        missing = (
            f"the boundary is '{boundary}', so '{hidden}' is frozen with weights that were drawn at random. "
            "Freeze up to a vertex before it."
        )
        raise NotYet(missing)
    before = [name for name in net.cut_points if name in net.ancestors(hidden) - {hidden}]
    if boundary != before[-1]:
        missing = f"the boundary '{boundary}' leaves more to train than was drawn anew. A later vertex will do."
        raise NotYet(missing)
    return f"frozen up to '{boundary}', and all that was drawn anew behind it is free to learn."
