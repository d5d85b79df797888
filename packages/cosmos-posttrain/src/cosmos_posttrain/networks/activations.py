"""What the feature networks share: the activations asked for, on the way through the layers."""

from collections.abc import Collection, Iterable

from torch import Tensor, nn


def activations(
    x: Tensor, layers: Iterable[tuple[str | None, nn.Module]], wanted: Collection[str]
) -> dict[str, Tensor]:
    """Run ``x`` through named layers, keep the results of those wanted, and compute nothing after the last of them."""
    left = set(wanted)
    found: dict[str, Tensor] = {}
    for name, layer in layers:
        if len(found) == len(left):
            break
        x = layer(x)
        if name in left:
            found[name] = x
    return found
