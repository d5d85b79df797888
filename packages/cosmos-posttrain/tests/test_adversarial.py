"""Adversarial terms: hinge and R1 against formulas, the adaptive weight, and who gets gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cosmos_posttrain.losses import Adversarial, adaptive_weight
from cosmos_posttrain.networks import PatchDiscriminator


class Linear(nn.Module):
    """Logits whose gradients are known: ``sin`` of a weighted sum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.7, -1.3, 2.1], dtype=torch.float64))

    def forward(self, video: Tensor) -> Tensor:
        return 2 * torch.sin(torch.einsum("bcthw,c->bthw", video, self.weight)).unsqueeze(1)


def clips(frames: int = 3) -> tuple[Tensor, Tensor]:
    return tuple(torch.rand(2, 3, frames, 5, 4, dtype=torch.float64) * 2 - 1 for _ in range(2))


@pytest.mark.parametrize("frames", [1, 3])
def test_hinge_losses_follow_their_formulas(frames: int) -> None:
    fake, real = clips(frames)
    network = Linear()
    term = Adversarial(discriminator=network)
    logits_fake, logits_real = (network(clip).detach().flatten().tolist() for clip in (fake, real))
    count = len(logits_fake)
    assert term(fake, real).item() == pytest.approx(-sum(logits_fake) / count)
    hinge = sum(max(0, 1 - x) for x in logits_real) + sum(max(0, 1 + x) for x in logits_fake)
    assert term.discriminator_loss(fake, real).item() == pytest.approx(hinge / count / 2)


def test_r1_is_half_the_squared_gradient_of_each_clips_mean_logit() -> None:
    network = Linear()
    _, real = clips()
    phase = torch.einsum("bcthw,c->bthw", real, network.weight)
    positions = phase[0].numel()
    squares = (2 * phase.cos() / positions).square().sum(dim=(1, 2, 3)) * network.weight.square().sum()
    found = Adversarial(discriminator=network).r1(real)
    assert found.item() == pytest.approx(squares.mean().item() / 2)
    found.backward()
    assert network.weight.grad is not None
    assert network.weight.grad.abs().min() > 0


def test_r1_gradients_are_those_of_finite_differences() -> None:
    network = PatchDiscriminator(width=8, layers=2).double()
    clip = torch.rand(2, 3, 2, 8, 9, dtype=torch.float64)
    term = Adversarial(discriminator=network)
    weight = network.convs[1].bias
    [gradient] = torch.autograd.grad(term.r1(clip), weight)
    for place in (0, 7):
        with torch.no_grad():
            values = []
            for step in (1e-5, -1e-5):
                weight[place] += step
                with torch.enable_grad():
                    values.append(term.r1(clip).item())
                weight[place] -= step
        assert float(gradient[place]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-10)


def test_each_side_gets_its_own_gradients_alone() -> None:
    network = PatchDiscriminator(width=8)
    term = Adversarial(discriminator=network)
    fake, real = (torch.rand(2, 3, 2, 16, 16) for _ in range(2))
    fake.requires_grad_()
    term(fake, real).backward()
    assert fake.grad is not None
    assert fake.grad.abs().max() > 0
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    fake.grad = None
    (term.discriminator_loss(fake, real) + term.r1(real)).backward()
    assert fake.grad is None
    assert real.grad is None
    assert all(p.grad is not None for p in network.parameters())


def test_a_discriminator_step_tells_clips_apart_and_the_generator_follows_it() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(width=8, layers=2)
    term = Adversarial(discriminator=network)
    real, fake = torch.rand(4, 3, 1, 8, 8), torch.rand(4, 3, 1, 8, 8).round()
    first = term.discriminator_loss(fake, real).item()
    for _ in range(10):
        gradients = torch.autograd.grad(term.discriminator_loss(fake, real), list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= 0.01 * gradient.sign()
    assert term.discriminator_loss(fake, real).item() < first / 2
    assert term(real, real).item() < term(fake, real).item()


def test_the_adaptive_weight_makes_gradients_equally_long() -> None:
    layer = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(7, 5, dtype=torch.float64)
    out = x @ layer.T
    reconstruction, adversarial = out.square().mean(), out.sin().mean() * 1e3
    gradients = [torch.autograd.grad(loss, layer, retain_graph=True)[0] for loss in (reconstruction, adversarial)]
    weight = adaptive_weight(reconstruction, adversarial, layer)
    assert float(weight) == pytest.approx(float(gradients[0].norm() / (gradients[1].norm() + 1e-4)), rel=1e-6)
    assert not weight.requires_grad
    (reconstruction + weight * adversarial).backward()  # the graphs are still there


def test_parts_of_a_batch_together_have_the_adaptive_weight_of_the_whole() -> None:
    clips = torch.linspace(-1, 3, 18, dtype=torch.float64).reshape(6, 3).requires_grad_()
    squares: list[Tensor] = []

    def weight(part: Tensor, whole: Callable[[Tensor], Tensor]) -> float:
        return float(adaptive_weight(part.square().mean(), part.sin().mean(), part, whole=whole))

    def kept(mine: Tensor) -> Tensor:
        squares.append(mine)
        return mine

    expected = weight(clips * 1, kept)
    apart = [weight(clips[:2] * 1, kept), weight(clips[2:4] * 1, kept), weight(clips[4:] * 1, kept)]
    together = torch.stack(squares[1:]).mean(0) / 3
    torch.testing.assert_close(together, squares[0])
    assert weight(clips[:2] * 1, lambda mine: together) == pytest.approx(expected)
    assert sum(apart) / 3 != pytest.approx(expected, rel=1e-3)


def test_the_adaptive_weight_is_bounded_where_the_adversary_says_nothing() -> None:
    out = torch.ones(3, requires_grad=True) * 1
    assert float(adaptive_weight(out.sum() * 1e3, (out * 0).sum(), out)) == 1e4
    assert float(adaptive_weight(out.sum() * 1e3, (out * 0).sum(), out, largest=10.0)) == 10


def test_terms_run_in_float32_under_autocast() -> None:
    term = Adversarial(discriminator=PatchDiscriminator(width=8))
    fake, real = (torch.rand(1, 3, 3, 16, 16).bfloat16() for _ in range(2))
    expected = term.discriminator_loss(fake.float(), real.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(term.discriminator_loss(fake, real), expected)
        assert term(fake, real).dtype == term.r1(real).dtype == torch.float32
