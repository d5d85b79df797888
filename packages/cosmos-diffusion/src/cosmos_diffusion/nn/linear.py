"""Linear layers without bias, as the family's transformers have them throughout."""

from torch import nn


class Linear(nn.Linear):
    """``x W^T``; the layers that ``cosmos_diffusion.nn`` may run in eight bits are of this class."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias=bias)
