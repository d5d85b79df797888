"""Colour, perceptual and Gram terms, the judging distance and schedules, against formulas in float64."""

from collections.abc import Callable, Collection

import pytest
import torch
from torch import Tensor, nn

from cosmos_posttrain.losses import (
    PAPER_VGG19,
    POST_TRAINING,
    RELEASED,
    RELEASED_VGG16,
    Gram,
    Perceptual,
    StepSchedule,
    activations,
    colour,
    equal_weights,
    perceptual_distance,
)
from cosmos_posttrain.networks.vgg import VGG
from cosmos_tokenizer import InputError

SHAPES = [(2, 3, 3, 9, 11), (2, 3, 1, 8, 7)]
WEIGHTS = {"near": 0.3, "far": 2.0}


class Smooth(nn.Module):
    """Two smooth layers, the second at half the size."""

    layers = ("near", "far")

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.near = nn.Conv2d(3, 4, 3, padding=1)
        self.far = nn.Conv2d(4, 5, 3, stride=2, padding=1)

    def forward(self, frames: Tensor, layers: Collection[str] | None = None) -> dict[str, Tensor]:
        near = torch.tanh(self.near(frames))
        found = {"near": near, "far": torch.tanh(self.far(near))}
        return {layer: found[layer] for layer in layers or self.layers if layer in found}


NETWORK = Smooth().double().requires_grad_(False)


def clips(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(shape[2])
    return tuple(torch.rand(shape, dtype=torch.float64, generator=generator) * 2 - 1 for _ in range(2))


def features(clip: Tensor, n: int, t: int) -> dict[str, Tensor]:
    return {layer: x[0] for layer, x in NETWORK(clip[n : n + 1, :, t]).items()}


def perceptual_formula(a: Tensor, b: Tensor) -> float:
    total, frames = 0.0, a.shape[0] * a.shape[2]
    for n in range(a.shape[0]):
        for t in range(a.shape[2]):
            f, g = features(a, n, t), features(b, n, t)
            total += sum(WEIGHTS[k] * float((f[k] - g[k]).abs().sum()) / f[k].numel() for k in WEIGHTS) / frames
    return total


def gram_formula(a: Tensor, b: Tensor, definition: str) -> float:
    batch, _, frames, _, _ = a.shape
    total = 0.0
    for n in range(batch):
        for layer, weight in WEIGHTS.items():
            matrices = []
            for clip in (a, b):
                x_TCL = [features(clip, n, t)[layer].flatten(1) for t in range(frames)]
                matrices.append(torch.stack([x @ x.T / x.shape[1] for x in x_TCL]))
            c = matrices[0].shape[1]
            if definition == "paper":
                total += weight * float((matrices[0] - matrices[1]).abs().sum()) / (frames * c * c)
            else:  # one matrix over all frames is the mean of the frames'
                total += weight * float((matrices[0].mean(0) - matrices[1].mean(0)).square().sum()) / (c * c)
    return total / batch


@pytest.mark.parametrize("shape", SHAPES)
def test_colour_is_the_mean_absolute_error(shape: tuple[int, ...]) -> None:
    a, b = clips(shape)
    expected = sum(abs(float(x) - float(y)) for x, y in zip(a.flatten(), b.flatten(), strict=True)) / a.numel()
    assert float(colour(a, b)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_perceptual_adds_weighted_errors_of_each_frames_activations(shape: tuple[int, ...]) -> None:
    a, b = clips(shape)
    term = Perceptual(network=NETWORK, weights=WEIGHTS)
    assert float(term(a, b)) == pytest.approx(perceptual_formula(a, b), rel=1e-12)


@pytest.mark.parametrize("definition", ["paper", "released"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gram_compares_products_of_channels(shape: tuple[int, ...], definition: str) -> None:
    a, b = clips(shape)
    term = Gram(network=NETWORK, weights=WEIGHTS, definition=definition)
    assert float(term(a, b)) == pytest.approx(gram_formula(a, b, definition), rel=1e-11)


def test_only_the_papers_gram_notices_the_order_of_frames() -> None:
    a, _ = clips((2, 3, 3, 9, 11))
    paper, released = (
        float(Gram(network=NETWORK, weights=WEIGHTS, definition=definition)(a, a.flip(2)))
        for definition in ("paper", "released")
    )
    assert released < 1e-20 < paper


@pytest.mark.parametrize(
    "term",
    [
        colour,
        Perceptual(network=NETWORK, weights=WEIGHTS),
        Gram(network=NETWORK, weights=WEIGHTS, definition="paper"),
        Gram(network=NETWORK, weights=WEIGHTS, definition="released"),
    ],
    ids=["colour", "perceptual", "gram-paper", "gram-released"],
)
def test_gradients_are_those_of_finite_differences(term: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = clips((2, 3, 2, 2, 3))
    assert torch.autograd.gradcheck(lambda x: term(x, b), a.requires_grad_(), eps=1e-7, atol=1e-6)
    assert float(term(b, b)) == 0


def test_terms_on_one_network_share_its_activations() -> None:
    a, b = clips((2, 3, 3, 9, 11))
    f, g = (activations(clip, NETWORK, WEIGHTS) for clip in (a, b))
    for term in (
        Perceptual(network=NETWORK, weights=WEIGHTS),
        Gram(network=NETWORK, weights=WEIGHTS, definition="paper"),
    ):
        assert torch.equal(term.of(f, g), term(a, b))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_terms_run_in_float32_under_autocast_and_on_narrow_clips(dtype: torch.dtype) -> None:
    network = Smooth().requires_grad_(False)
    a, b = (clip.to(dtype) for clip in clips((2, 3, 3, 9, 11)))
    terms = (
        colour,
        Perceptual(network=network, weights=WEIGHTS),
        Gram(network=network, weights=WEIGHTS, definition="released"),
    )
    for term in terms:
        expected = term(a.float(), b.float())
        with torch.autocast("cpu", torch.bfloat16):
            found = term(a, b)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


def test_the_clip_is_outside_the_graph_and_the_network_gets_no_gradients() -> None:
    network = Smooth().requires_grad_(False)
    a, b = (clip.float() for clip in clips((1, 3, 2, 8, 8)))
    Perceptual(network=network, weights=WEIGHTS)(a.requires_grad_(), b).backward()
    assert a.grad is not None
    assert a.grad.abs().max() > 0
    assert all(p.grad is None for p in network.parameters())


def test_definitions_name_layers_of_their_networks() -> None:
    with torch.device("meta"):
        vgg16, vgg19 = VGG("vgg16"), VGG("vgg19")
    assert set(RELEASED_VGG16) <= set(vgg16.layers)
    assert set(PAPER_VGG19) <= set(vgg19.layers)
    scales = [1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5]
    assert list(RELEASED_VGG16.values()) == scales
    assert list(PAPER_VGG19.values()) == pytest.approx([scale / 5 for scale in scales])
    assert equal_weights(NETWORK) == {"near": 0.5, "far": 0.5}


def test_an_unknown_layer_is_refused() -> None:
    a, b = clips((1, 3, 1, 8, 8))
    with pytest.raises(InputError, match="no layer 'relu9_9': among its layers are near, far"):
        Perceptual(network=NETWORK, weights={"relu9_9": 1.0})(a, b)


def test_distance_compares_directions_of_activations_frame_by_frame() -> None:
    a, b = clips((2, 3, 3, 9, 11))
    distance = perceptual_distance(NETWORK, a, b)
    assert distance.shape == (2, 3)
    for n in range(2):
        for t in range(3):
            f, g = features(a, n, t), features(b, n, t)
            expected = 0.0
            for layer in ("near", "far"):
                cosine = torch.nn.functional.cosine_similarity(f[layer], g[layer], dim=0)
                expected += float((2 - 2 * cosine).mean()) / 2
            assert float(distance[n, t]) == pytest.approx(expected, rel=1e-8)
    assert float(perceptual_distance(NETWORK, a * 3, a.mul(3).clamp(-1, 1)).max()) == 0


def test_weights_step_at_their_boundaries() -> None:
    schedule = StepSchedule(values=(0.0, 0.5, 0.25), boundaries=(3, 10))
    assert [schedule.at(step) for step in (0, 2, 3, 9, 10, 11)] == [0.0, 0.0, 0.5, 0.5, 0.25, 0.25]
    assert StepSchedule(values=(0.1,)).at(10**9) == 0.1


def test_released_weights_are_those_of_the_training_code() -> None:
    found = {
        step: tuple(RELEASED[name].at(step) for name in ("colour", "perceptual", "flow", "gram"))
        for step in (0, 249_999, 250_000, 499_999, 500_000)
    }
    assert found[0] == found[249_999] == (1.0, 0.1, 0.0, 0.0)
    assert found[250_000] == found[499_999] == (1.0, 0.1, 0.01, 0.0)
    assert found[500_000] == (1.0, 0.073, 0.01, 0.062)
    assert {name: schedule.at(600_000) for name, schedule in POST_TRAINING.items()} == {
        "colour": 1.0,
        "perceptual": 0.1,
    }


@pytest.mark.parametrize(
    ("values", "boundaries", "message"),
    [
        ((0.1, 0.2), (), "2 values and 0 boundaries"),
        ((0.1, 0.2, 0.3), (5, 5), r"\(5, 5\) must be positive and ascend"),
        ((0.1, 0.2), (0,), "must be positive"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(
    values: tuple[float, ...], boundaries: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        StepSchedule(values=values, boundaries=boundaries)
