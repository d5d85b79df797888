"""The tokenizer's terms together: weights by step, networks that are there or not, and the adversarial game."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cosmos_posttrain.losses import StepSchedule, colour
from cosmos_posttrain.networks.mobilenet import MobileNetV2
from cosmos_posttrain.recipes import TermWeights
from cosmos_posttrain.recipes.terms import Terms
from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError

TOY = replace(PRESETS["toy"], channels=8)


def constant(value: float) -> StepSchedule:
    return StepSchedule(values=(value,))


ENDING = StepSchedule(values=(1.0, 0.0), boundaries=(7,))


@pytest.fixture
def model() -> CausalTokenizer:
    torch.manual_seed(0)
    return CausalTokenizer(TOY)


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    """A folder with a MobileNetV2 of random weights."""
    torch.manual_seed(0)
    save_file(
        {name: value.contiguous() for name, value in MobileNetV2().state_dict().items()},
        tmp_path / "mobilenet_v2.safetensors",
    )
    return tmp_path


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A reconstruction with a gradient, and the clip."""
    video = torch.rand(2, 3, 9, 32, 40) * 2 - 1
    return (video + 0.1 * torch.randn_like(video)).requires_grad_(), video


def alone(squares: torch.Tensor) -> torch.Tensor:
    return squares


Say = Callable[[str], None]


def silent(line: str) -> None:
    pass


def test_the_loss_is_the_weighted_sum_and_weights_follow_the_step(
    model: CausalTokenizer, networks: Path, pair: tuple[torch.Tensor, torch.Tensor]
) -> None:
    weights = TermWeights(
        colour=constant(0.5),
        perceptual=constant(0.1),
        gram=StepSchedule(values=(0.0, 2.0), boundaries=(3,)),
        consistency=StepSchedule(values=(0.0, 0.3), boundaries=(5,)),
        window=5,
        window_step=4,
    )
    model = CausalTokenizer(replace(TOY, temporal_compression=4, channel_multipliers=(1, 2)))
    terms = Terms(weights, model, networks, silent)
    early, later, last = (terms(*pair, step, alone) for step in (2, 3, 5))
    assert list(early) == ["loss", "colour", "perceptual"]
    assert list(last) == ["loss", "colour", "perceptual", "gram", "consistency"]
    torch.testing.assert_close(early["colour"], colour(*pair))
    torch.testing.assert_close(early["loss"], 0.5 * early["colour"] + 0.1 * early["perceptual"])
    torch.testing.assert_close(later["loss"], early["loss"] + 2 * later["gram"])
    torch.testing.assert_close(last["loss"], later["loss"] + 0.3 * last["consistency"])
    last["loss"].backward()
    assert pair[0].grad is not None
    assert all(parameter.grad is None for network in terms.networks() for parameter in network.parameters())


def test_perceptual_terms_may_see_some_frames_and_all_in_turn(
    model: CausalTokenizer, networks: Path, pair: tuple[torch.Tensor, torch.Tensor]
) -> None:
    terms = Terms(TermWeights(perceptual=constant(1.0), every=4), model, networks, silent)
    seen = []
    for step in range(4):
        [gradient] = torch.autograd.grad(terms(*pair, step, alone)["perceptual"], pair[0])
        seen.append([t for t in range(9) if gradient[:, :, t].any()])
    assert seen == [[0, 4, 8], [1, 5], [2, 6], [3, 7]]
    still = tuple(clip[:, :, :1] for clip in pair)
    assert torch.isfinite(terms(*still, 3, alone)["perceptual"])


def test_terms_without_networks_are_said_and_left_out(
    model: CausalTokenizer, pair: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    said: list[str] = []
    weights = TermWeights(perceptual=constant(0.1), flow=constant(0.1), features="vgg16")
    terms = Terms(weights, model, tmp_path, said.append)
    assert len(said) == 2
    assert f"vgg16 are not at hand (there is no {tmp_path / 'vgg16.safetensors'})" in said[0]
    assert list(terms(*pair, 0, alone)) == ["loss", "colour"]


def test_each_side_of_the_game_trains_its_own_weights(model: CausalTokenizer) -> None:
    weights = TermWeights(
        adversarial=StepSchedule(values=(0.0, 0.2), boundaries=(1,)),
        discriminator_width=8,
        discriminator_layers=2,
        r1=0.1,
    )
    terms = Terms(weights, model, None, silent)
    assert terms.discriminator is not None
    video = torch.rand(2, 3, 9, 32, 32) * 2 - 1
    found = terms(model(video), video, 0, alone)
    assert list(found) == ["loss", "colour"]
    found = terms(model(video), video, 1, alone)
    assert list(found) == ["loss", "colour", "adversarial", "discriminator"]
    found["loss"].backward()
    own = [parameter.grad for parameter in terms.discriminator.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in own)
    assert all(parameter.requires_grad for parameter in terms.discriminator.parameters())
    # The tokenizer's gradient is that of its own terms alone, the discriminator's that of its loss.
    game = terms(model(video), video, 1, alone)
    expected = torch.autograd.grad(game["discriminator"], list(terms.discriminator.parameters()), retain_graph=True)
    for got, wanted in zip(own, expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)
    some = next(model.parameters())
    [wanted] = torch.autograd.grad(game["loss"] - game["discriminator"], some)
    torch.testing.assert_close(some.grad, wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (TermWeights(colour=constant(0.0), perceptual=constant(1.0)), "from step 0 on no term of the loss is left"),
        (TermWeights(colour=ENDING, adversarial=constant(1.0)), "from step 7"),
        (
            TermWeights(colour=ENDING, adversarial=constant(1.0), consistency=constant(1.0)),
            r"from step 7 on terms\.adversarial stands beside terms\.consistency alone",
        ),
    ],
)
def test_a_loss_that_cannot_be_computed_is_refused_at_once(
    weights: TermWeights, said: str, model: CausalTokenizer
) -> None:
    with pytest.raises(InputError, match=said):
        Terms(weights, model, None, silent)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gram": StepSchedule(values=(-1.0,))}, "terms.gram has weight -1.0"),
        ({"gram": StepSchedule(values=(1.0, float("nan")), boundaries=(3,))}, "terms.gram has weight nan"),
        ({"colour": StepSchedule(values=(float("inf"),))}, "terms.colour has weight inf"),
        ({"r1": -1.0}, "r1 is -1.0"),
        ({"r1": float("nan")}, "r1 is nan"),
        ({"every": 0}, "every is 0"),
    ],
)
def test_senseless_weights_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TermWeights(**fields)


def test_windows_that_hold_no_whole_latent_frames_are_refused(model: CausalTokenizer) -> None:
    weights = TermWeights(consistency=constant(0.1), window=5)
    with pytest.raises(InputError, match=r"terms\.window is 5: give one more than a multiple of the 8 frames"):
        Terms(weights, model, None, silent)


def test_a_clip_too_short_for_two_windows_gives_gradients_of_zero(
    model: CausalTokenizer, pair: tuple[torch.Tensor, torch.Tensor]
) -> None:
    weights = TermWeights(colour=constant(0.0), consistency=constant(1.0))
    found = Terms(weights, model, None, silent)(*pair, 0, alone)
    assert found["loss"] == 0
    found["loss"].backward()
    assert pair[0].grad is not None
    assert not pair[0].grad.any()


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_networks_may_be_files_as_torch_saves_them(suffix: str, model: CausalTokenizer, tmp_path: Path) -> None:
    torch.save(MobileNetV2().state_dict(), tmp_path / f"mobilenet_v2{suffix}")
    terms = Terms(TermWeights(perceptual=constant(1.0)), model, tmp_path, silent)
    assert list(terms.digests) == ["mobilenet_v2"]
    assert len(terms.networks()) == 1
