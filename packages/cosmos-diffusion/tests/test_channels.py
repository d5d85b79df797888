"""What a token sees beside the latents: in the released order, at the released scale, and where there is a place."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cosmos_diffusion import PRESETS
from cosmos_diffusion.channels import Conditions, InputChannels
from cosmos_tokenizer import InputError

TOY = PRESETS["toy"]
VIEWS = replace(TOY, views=3, position="sincos")


def twice_as_long(x: Tensor, axis: int) -> Tensor:
    """Along an axis, by the middle between neighbours; beyond the ends it goes on as it ends."""
    size = x.shape[axis]
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, size - 1)], axis)
    behind = torch.cat([x.narrow(axis, 1, size - 1), x.narrow(axis, size - 1, 1)], axis)
    return torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * behind], axis + 1).flatten(axis, axis + 1)


def test_channels_stand_in_the_released_order(randomised: Callable) -> None:
    config = replace(
        VIEWS,
        latent_channels=3,
        condition_mask=True,
        camera_channels=6,
        token_channels=5,
        token_codes=20,
        view_channels=4,
        trajectory_channels=2,
    )
    channels = randomised(InputChannels(config))
    x, camera = torch.randn(2, 3, 6, 8, 12), torch.randn(2, 6, 6, 8, 12)
    mask, padding = torch.rand(2, 1, 6, 8, 12), torch.rand(1, 1, 64, 96).round()
    tokens, views, repeats = torch.randint(20, (2, 6, 4, 6)), torch.tensor([[2, 0, 1], [1, 1, 0]]), torch.rand(2, 3)
    path = torch.randn(2, 64, 3)
    with torch.no_grad():
        y = channels(x, Conditions(mask, padding, camera, tokens, None, views, repeats, path), 3)
        assert y.shape[1] == config.input_channels
        widths = {"latents": 3, "mask": 1, "camera": 6, "tokens": 5, "padding": 1, "view": 4, "path": 2}
        found = dict(zip(widths, y.split(list(widths.values()), 1), strict=True))
        e_BCTHW = channels.tokens.weight[tokens].movedim(-1, 1)
        of_view = channels.views.weight[views] + channels.repeats(repeats[..., None] / 10)
        trajectory = channels.trajectory(path.flatten(1))
        ones = torch.ones(2, 1, 6, 8, 12)
        expected = {
            "latents": x,
            "mask": mask,
            "camera": camera,
            "tokens": twice_as_long(twice_as_long(e_BCTHW, 3), 4),
            "padding": padding[:, :, ::8, ::8].unsqueeze(2).expand_as(ones),
            "view": of_view.movedim(-1, 1)[:, :, [0, 0, 1, 1, 2, 2], None, None] * ones,
            "path": trajectory[:, :, None, None, None] * ones,
        }
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")


def test_what_is_not_given_is_zeros_but_for_the_views(randomised: Callable) -> None:
    config = replace(VIEWS, condition_mask=True, camera_channels=6, trajectory_channels=2)
    channels = randomised(InputChannels(config))
    with torch.no_grad():
        y = channels(torch.randn(2, 16, 3, 4, 4), Conditions(), 3)
    rest = y[:, 16:]
    assert not rest[:, :8].any()
    assert torch.equal(rest[0, 8:14, :, 1, 2].T, channels.views.weight.detach())
    assert not rest[:, 14:].any()


@pytest.mark.parametrize("name", Conditions._fields)
def test_what_a_network_has_no_place_for_is_named(name: str) -> None:
    given = Conditions()._replace(**{name: torch.zeros(1)})
    with pytest.raises(InputError, match=f"^{name} is given, and this network has no place for it"):
        given.check(replace(TOY, padding_mask=False))


@pytest.mark.parametrize(
    ("name", "shape", "fits"),
    [
        ("condition_mask", (2, 1, 6, 1, 1), "2 x 1 x 6 x 8 x 12"),
        ("padding_mask", (3, 1, 8, 12), "1 or B x 1 x rows x columns"),
        ("padding_mask", (1, 8, 12), "1 or B x 1 x rows x columns"),
        ("camera", (2, 7, 6, 8, 12), "2 x 6 x 6 x 8 x 12"),
        ("tokens", (2, 5, 4, 6), "2 x 6 x rows x columns"),
        ("action", (1, 7), "2 x 7"),
        ("views", (2, 2), "2 x 3"),
        ("repeats", (1, 3), "2 x 3"),
        ("trajectory", (2, 63, 3), "2 x 64 x 3"),
    ],
)
def test_what_does_not_fit_the_latents_is_named(name: str, shape: tuple[int, ...], fits: str) -> None:
    config = replace(
        VIEWS, condition_mask=True, camera_channels=6, token_channels=5, trajectory_channels=2, action_numbers=7
    )
    given = Conditions()._replace(**{name: torch.zeros(shape)})
    with pytest.raises(InputError, match=rf"^{name} has shape \({shape[0]}, .*\): give {fits} beside"):
        unchecked(given, config, torch.zeros(2, 16, 6, 8, 12), 3)


def unchecked(given: Conditions, *others: object) -> None:
    """Without jaxtyping's own check, where it is on."""
    check = Conditions.check_shapes
    getattr(check, "__wrapped__", check)(given, *others)


def test_tokens_of_a_fine_tune_begin_at_zero() -> None:
    assert not InputChannels(replace(TOY, token_channels=8, token_codes=50)).tokens.weight.any()
