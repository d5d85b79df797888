"""The network: equal to diffusers' transformer, its caches exact, its conditionings in their places."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cosmos_diffusion import PRESETS, DiT, DiTConfig
from cosmos_diffusion.diffusers_layout import name_there
from cosmos_diffusion.nn import axis_widths, frequencies, grid_angles, rotate, rotation
from cosmos_diffusion.positions import RotaryGrid
from cosmos_tokenizer import InputError

TOY, VIDEO = PRESETS["toy"], PRESETS["toy-video"]
PREDICT2 = replace(VIDEO, position="none", rope_fps=False, rope_ratio=(1.0, 3.0, 3.0))
PREDICT25 = replace(PREDICT2, text_projection=40)
VIEWS = replace(VIDEO, views=3, position="sincos")

PARAMETERS = {
    "7b-text2world": 7_236_192_256,
    "7b-video2world": 7_236_208_640,
    "14b-text2world": 14_267_149_312,
    "14b-video2world": 14_267_169_792,
    "7b-text2world-multiview": 7_234_783_280,
    "7b-video2world-multiview": 7_234_799_664,
    "7b-text2world-multiview-trajectory": 7_234_882_742,
    "7b-video2world-camera": 7_236_306_944,
    "7b-video2world-action": 7_503_415_296,
    "7b-decoder-dv8x16x16-cv8x8x8": 7_237_257_216,
    "predict2-2b-text2image": 1_956_405_248,
    "predict2-2b-video2world": 1_956_413_440,
    "predict2-14b-text2image": 14_265_265_152,
    "predict2-14b-video2world": 14_265_285_632,
    "predict2.5-2b": 2_059_174_912,
    "predict2.5-14b": 14_368_047_104,
    "nano-video2world": 3_648_576,
    "toy": 99_120,
    "toy-video": 99_312,
}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_its_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        net = DiT(PRESETS[name])
    assert sum(value.numel() for value in net.parameters()) == PARAMETERS[name]


def inputs(config: DiTConfig, batch: int, frames: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, dict]:
    x = torch.randn(batch, config.latent_channels, frames, height, width)
    text = torch.randn(batch, 7, config.text_projection or config.text_width)
    given: dict[str, Tensor] = {"padding_mask": (torch.rand(1, 1, 8 * height, 8 * width) > 0.5).float()}
    if config.condition_mask:
        given["condition_mask"] = torch.rand(batch, 1, frames, height, width)
    return x, torch.randn(batch), text, given


@pytest.mark.parametrize("fps", [None, 10, 24, 30])
@pytest.mark.parametrize("shape", [(1, 3, 6, 10), (2, 1, 4, 4), (2, 5, 2, 14)])
@pytest.mark.parametrize("config", [TOY, VIDEO], ids=["text", "video"])
def test_network_equals_diffusers(
    oracle: Callable, config: DiTConfig, shape: tuple[int, int, int, int], fps: int | None
) -> None:
    peer, net = oracle(config), DiT(config)
    state = peer.state_dict()
    net.load_state_dict({name: state.pop(name_there(name)) for name in net.state_dict()})
    assert not state
    x, c_noise, text, given = inputs(config, *shape)
    with torch.no_grad():
        expected = peer(x, c_noise, text, fps=fps, **given, return_dict=False)[0]
        torch.testing.assert_close(net(x, c_noise, text, fps=fps, **given), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [PREDICT2, PREDICT25], ids=["2", "2.5"])
def test_network_with_a_level_for_each_frame_equals_diffusers(oracle: Callable, config: DiTConfig) -> None:
    peer, net = oracle(config), DiT(config)
    state = peer.state_dict()
    net.load_state_dict({name: state.pop(name_there(name)) for name in net.state_dict()})
    x, _, text, given = inputs(config, 2, 4, 6, 4)
    c_noise = torch.randn(2, 4)
    with torch.no_grad():
        expected = peer(x, c_noise[:, None, :, None, None], text, **given, return_dict=False)[0]
        torch.testing.assert_close(net(x, c_noise, text, fps=None, **given), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [TOY, VIDEO, PREDICT25, VIEWS], ids=["text", "video", "2.5", "views"])
def test_what_is_prepared_gives_the_same_bits(random_net: Callable, config: DiTConfig) -> None:
    net = random_net(config)
    x, c_noise, text, given = inputs(config, 2, 6, 4, 6)
    text = text.repeat(1, 3, 1)
    with torch.no_grad():
        prepared = net.prepare_level(c_noise), net.prepare_text(text, views=max(1, config.views))
        assert torch.equal(net(x, *prepared, fps=24, **given), net(x, c_noise, text, fps=24, **given))


class NoCopies(TorchDispatchMode):
    """Fails where something made on the host is used with what is on the device, for which the device would wait."""

    def __torch_dispatch__(
        self, func: OpOverload, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        for value in tree_leaves((args, kwargs)):
            assert not isinstance(value, Tensor) or value.is_meta, f"{func} takes a tensor of the host"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("config", [TOY, VIDEO, PREDICT25, VIEWS], ids=["text", "video", "2.5", "views"])
def test_nothing_is_made_on_the_host(config: DiTConfig) -> None:
    with torch.device("meta"):
        net = DiT(config)
        x, c_noise, text, given = inputs(config, 2, 6, 4, 6)
    with torch.no_grad():
        prepared = net.prepare_level(c_noise), net.prepare_text(text.repeat(1, 3, 1), views=max(1, config.views))
        with NoCopies():
            with pytest.raises(AssertionError, match="of the host"):
                torch.zeros(2, device="cpu").to("meta")
            net(x, *prepared, fps=24, **given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotations_of_the_last_grid_are_kept_in_float32(dtype: torch.dtype) -> None:
    grid = RotaryGrid(VIDEO).to(dtype)
    rates = tuple(frequencies(width, ratio) for width, ratio in zip(axis_widths(24), VIDEO.rope_ratio, strict=True))
    at = {"views": 1, "device": torch.device("cpu")}
    with torch.inference_mode():
        first = grid((3, 2, 5), 30, **at)
    assert grid((3, 2, 5), 30, **at) is first
    for fps, start in ((30, 0), (10, 0), (10, 2), (None, 0)):
        frames = torch.arange(3.0) + start
        frames = frames if fps is None else frames / fps * 24
        wanted = rotation(grid_angles((frames, torch.arange(2.0), torch.arange(5.0)), rates))
        found = grid((3, 2, 5), fps, **at, first=start)
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    x = torch.randn(1, 30, 2, 24, requires_grad=True)
    rotate(x, first).sum().backward()  # made while sampling, used in training


def test_padded_text_takes_part(random_net: Callable) -> None:
    net = random_net(TOY)
    x, c_noise, text, given = inputs(TOY, 1, 2, 4, 4)
    longer = torch.cat([text, torch.zeros(1, 5, TOY.text_width)], dim=1)
    with torch.no_grad():
        short, padded = (net(x, c_noise, some, fps=24, **given) for some in (text, longer))
    assert (short - padded).abs().max() > 1e-3


def test_views_see_their_own_text_and_one_another(random_net: Callable) -> None:
    net = random_net(VIEWS)
    x, c_noise, text, given = inputs(VIEWS, 1, 6, 4, 4)
    text = torch.randn(1, 9, VIEWS.text_width)
    order = [2, 0, 1]

    def turned(value: Tensor, axis: int) -> Tensor:
        return torch.cat([value.tensor_split(3, axis)[index] for index in order], dim=axis)

    with torch.no_grad():
        y = net(x, c_noise, text, fps=24, **given)
        swapped = given | {"condition_mask": turned(given["condition_mask"], 2), "views": torch.tensor([order])}
        other = net(turned(x, 2), c_noise, turned(text, 1), fps=24, **swapped)
        torch.testing.assert_close(other, turned(y, 2), atol=1e-5, rtol=1e-4)
        assert (net(turned(x, 2), c_noise, text, fps=24, **swapped) - turned(y, 2)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("change", "given"),
    [
        ({"camera_channels": 6}, {"camera": torch.randn(2, 6, 3, 4, 4)}),
        ({"action_numbers": 7}, {"action": torch.randn(2, 7)}),
        ({"action_numbers": 7, "action_branch": "modulation"}, {"action": torch.randn(2, 7)}),
    ],
    ids=["camera", "action", "action in the modulation"],
)
def test_conditions_act_and_are_optional(random_net: Callable, change: dict, given: dict) -> None:
    config = replace(VIDEO, **change)
    net = random_net(config)
    x, c_noise, text, others = inputs(config, 2, 3, 4, 4)
    with torch.no_grad():
        without = net(x, c_noise, text, fps=24, **others)
        acted = net(x, c_noise, text, fps=24, **others, **given)
    assert (acted - without).abs().max() > 1e-3
    with pytest.raises(InputError, match="no place for it"):
        random_net(VIDEO)(x, c_noise, text, fps=24, **others, **given)


def test_what_a_fine_tune_adds_changes_nothing_at_first(random_net: Callable) -> None:
    base = random_net(VIDEO)
    net = DiT(replace(VIDEO, action_numbers=7))
    missing, unexpected = net.load_state_dict(base.state_dict(), strict=False)
    assert not unexpected
    assert all("action" in name for name in missing)
    x, c_noise, text, given = inputs(VIDEO, 2, 3, 4, 4)
    with torch.no_grad():
        expected = base(x, c_noise, text, fps=24, **given)
        assert torch.equal(net(x, c_noise, text, fps=24, **given, action=torch.randn(2, 7)), expected)


def test_a_decoder_needs_its_tokens(random_net: Callable) -> None:
    config = replace(TOY, token_channels=8, token_codes=50)
    net = random_net(config)
    x, c_noise, text, given = inputs(config, 1, 2, 8, 12)
    tokens = torch.randint(50, (1, 2, 4, 6))
    with torch.no_grad():
        one, other = (net(x, c_noise, text, fps=24, **given, tokens=some) for some in (tokens, 49 - tokens))
    assert (one - other).abs().max() > 1e-3
    with pytest.raises(InputError, match="tokens are missing"):
        net(x, c_noise, text, fps=24, **given)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 16, 2, 5, 4), "latents have 5 rows"),
        ((1, 16, 2, 4, 34), "latents have 34 columns"),
        ((1, 16, 17, 4, 4), "latents have 17 frames"),
        ((1, 15, 2, 4, 4), "latents have 15 channels"),
    ],
)
def test_shapes_that_do_not_fit_are_named(random_net: Callable, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        random_net(TOY)(torch.zeros(shape), torch.zeros(1), torch.zeros(1, 3, TOY.text_width), fps=24)


def test_text_of_another_width_is_named(random_net: Callable) -> None:
    with pytest.raises(InputError, match="this network takes B x S x 32"):
        random_net(TOY)(torch.zeros(1, 16, 1, 4, 4), torch.zeros(1), torch.zeros(1, 3, 31), fps=24)


def test_gradients_reach_every_weight(random_net: Callable) -> None:
    net = random_net(replace(VIDEO, views=3, trajectory_channels=4, camera_channels=6, action_numbers=7))
    x, c_noise, text, given = inputs(VIDEO, 1, 3, 4, 4)
    given |= {
        "camera": torch.randn(1, 6, 3, 4, 4),
        "action": torch.randn(1, 7),
        "repeats": torch.rand(1, 3),
        "trajectory": torch.randn(1, 64, 3),
    }
    net(x, c_noise, text[:, :6], fps=24, **given).square().mean().backward()
    for name, value in net.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(random_net: Callable, dtype: torch.dtype) -> None:
    net = random_net(VIDEO)
    x, c_noise, text, given = inputs(VIDEO, 2, 3, 4, 4)
    with torch.no_grad():
        expected = net(x, c_noise, text, fps=24, **given)
        y = net.to(dtype)(x, c_noise, text, fps=24, **given)
    assert y.dtype == dtype
    assert (y.float() - expected).abs().max() < 0.05 * expected.abs().max()
