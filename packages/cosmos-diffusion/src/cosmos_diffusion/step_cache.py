"""Steps that reuse what blocks added at the step before: first-block caching, summed up as in arXiv 2411.19108."""

from collections.abc import Callable, Hashable

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_tokenizer import InputError

Agree = Callable[[Float[Tensor, ""]], Float[Tensor, ""]]
"""The largest of a number over all processes that must decide alike."""


class StepCache:
    """Where the first block does almost the same as a step before, the blocks behind it are taken to do so, too.

    The first block runs at every step. How much its residual (what it adds to the tokens) has changed, as the mean of
    absolute differences over the mean of absolute values, of the clip that changed most, is summed up over the steps.
    While the sum stays below ``threshold``, the residual of all blocks behind the first is the one that they had when
    they last ran; once it does not, they run, and the sum begins at 0 again.

    It costs one wait for the device a step, and the memory of two tensors of tokens. What it saves, and what that does
    to a sample, depend on the network: compare with a sample of the same seed without it.

    Args:
        threshold: 0 reuses nothing. Of 35 steps of ``nano-video2world``, 0.05 reuses a quarter and 0.1 two fifths.

    Raises:
        InputError: the threshold is negative or not a number.
    """

    def __init__(self, threshold: int | float) -> None:
        if not 0 <= threshold < float("inf"):
            raise InputError(f"threshold of the step cache is {threshold}: give a number from 0 up, such as 0.1")
        self.threshold = threshold
        self.run = 0
        """Forwards in which all blocks ran."""
        self.reused = 0
        """Forwards in which the first block alone ran."""
        self.forget()

    def forget(self) -> None:
        """Let the next forward run whole; counts stay."""
        self._of: Hashable = None
        self._before: Tensor | None = None
        self._residual: Tensor | None = None
        self._sum = 0.0

    def begin(self, of: Hashable) -> None:
        """Say what the next forward is of: nothing is reused of a forward that was of something else."""
        if of != self._of:
            self.forget()
            self._of = of

    def __call__(
        self,
        before: Float[Tensor, "B L D"],
        after: Float[Tensor, "B L D"],
        rest: Callable[[Tensor], Tensor],
        agree: Agree | None = None,
    ) -> Float[Tensor, "B L D"]:
        """The tokens after all blocks.

        Args:
            before, after: tokens before and after the first block.
            rest: the blocks behind it.
            agree: between processes of which none may run the blocks alone.
        """
        first = after - before
        last, self._before = self._before, first
        if self._residual is not None and last is not None and last.shape == first.shape:
            change = (_size(first - last) / _size(last)).max()
            self._sum += float(change if agree is None else agree(change))
            if self._sum < self.threshold:
                self.reused += 1
                return after + self._residual
        self.run += 1
        self._sum = 0.0
        y = rest(after)
        self._residual = y - after
        return y


def _size(x_BLD: Tensor) -> Tensor:
    """Mean of absolute values of each clip; never 0."""
    return x_BLD.abs().float().mean((1, 2)).clamp_min(torch.finfo(torch.float32).tiny)
