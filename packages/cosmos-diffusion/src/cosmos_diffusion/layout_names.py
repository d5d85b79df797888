"""Names of a network's parameters in another layout. No tensor is transposed or permuted anywhere."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """A layout: how blocks are numbered (``block``, with ``{}``), what is in them, and what is not in any."""

    block: str
    in_block: Mapping[str, str]
    elsewhere: Mapping[str, str]

    def there(self, name: str) -> str:
        """The layout's name of one of our parameters; KeyError where it has none."""
        found = _BLOCK.fullmatch(name)
        if found is None:
            return self.elsewhere[name]
        return self.block.format(found[1]) + self.in_block[found[2]]

    def block_of(self, name: str) -> int | None:
        """Number of the block that a name of the layout lies in, if it lies in one."""
        found = re.match(re.escape(self.block).replace(r"\{\}", r"(\d+)"), name)
        return int(found[1]) if found else None


def in_block(
    *, attentions: tuple[str, str], inside: Mapping[str, str], perceptron: tuple[str, str], modulations: tuple[str, ...]
) -> dict[str, str]:
    """Names in a block.

    Args:
        attentions: of self- and cross-attention.
        inside: of each of their layers ("q", "k", "v", "q_norm", "k_norm", "out").
        perceptron: of its two layers.
        modulations: of the three modulations' two layers each, with ``{}`` for 1 and 2.
    """
    names = {"up.weight": f"{perceptron[0]}.weight", "down.weight": f"{perceptron[1]}.weight"}
    for here, there in zip(("self_attention", "cross_attention"), attentions, strict=True):
        names |= {f"{here}.{layer}.weight": f"{there}.{name}.weight" for layer, name in inside.items()}
    for index, there in enumerate(modulations):
        for number, layer in enumerate(("down", "up"), start=1):
            names[f"modulations.{index}.{layer}.weight"] = f"{there.format(number)}.weight"
    return names
