"""Adversarial term: hinge losses, adaptive weight (VQGAN, arXiv 2012.09841, equation 7) and R1 (arXiv 1801.04406).

The paper of the tokenizer (arXiv 2501.03575) names an adversarial loss for its last stage and gives no formula.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_posttrain.losses.precision import in_float32


@dataclass(frozen=True, kw_only=True, slots=True)
class Adversarial:
    """Both sides of the game: the generator's term, and the loss that trains the discriminator."""

    discriminator: nn.Module
    """Clips ``B 3 T H W`` in [-1, 1] to logits, high where they look real."""

    @in_float32
    def __call__(
        self, reconstruction: Float[Tensor, "B 3 T H W"], video: Float[Tensor, "B 3 T H W"]
    ) -> Float[Tensor, ""]:
        """The generator's term, minus the reconstruction's mean logit; it leaves the discriminator no gradients."""
        with _frozen(self.discriminator):
            return -self.discriminator(reconstruction).mean()

    @in_float32
    def discriminator_loss(
        self, reconstruction: Float[Tensor, "B 3 T H W"], video: Float[Tensor, "B 3 T H W"]
    ) -> Float[Tensor, ""]:
        """Half the hinge losses of both clips, 1 where logits are all 0; it leaves the generator no gradients."""
        real, fake = self.discriminator(video.detach()), self.discriminator(reconstruction.detach())
        return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2

    @in_float32
    def r1(self, video: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, ""]:
        """Half the squared gradient of each real clip's mean logit to its samples, averaged over the batch.

        Summed over a clip's samples, it grows with them: the weight belongs to a size of clip.
        """
        clip = video.detach().requires_grad_()
        scores = self.discriminator(clip).flatten(1).mean(dim=1)
        [gradient] = torch.autograd.grad(scores.sum(), clip, create_graph=True)
        return gradient.square().flatten(1).sum(dim=1).mean() / 2


def adaptive_weight(
    reconstruction_loss: Float[Tensor, ""],
    adversarial_loss: Float[Tensor, ""],
    at: Float[Tensor, "..."],
    *,
    whole: Callable[[Float[Tensor, "2"]], Float[Tensor, "2"]] = lambda squares: squares,
    largest: float = 1e4,
) -> Float[Tensor, ""]:
    """Weight that gives the adversarial term as long a gradient as the reconstruction losses have; it has none itself.

    Args:
        reconstruction_loss, adversarial_loss: terms whose graphs are kept.
        at: where gradients are measured: the weight of the decoder's last layer, as in VQGAN, or the reconstruction,
            which also works where weights are sharded.
        whole: squared lengths of the gradients of this process's part of a batch to those of the whole batch. Where
            ``at`` is the reconstruction and N processes share a batch, their mean over processes, divided by N.
        largest: bound of the weight.
    """
    gradients = [
        torch.autograd.grad(loss, at, retain_graph=True)[0].float() for loss in (reconstruction_loss, adversarial_loss)
    ]
    lengths = whole(torch.stack([gradient.square().sum() for gradient in gradients])).sqrt()
    return (lengths[0] / (lengths[1] + 1e-4)).clamp(max=largest).detach()


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Parameters take no gradients in graphs that are made inside."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
