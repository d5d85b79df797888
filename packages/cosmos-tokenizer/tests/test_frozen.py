"""Training of a part of the weights: the others may be frozen in any way, and the gradients are those of the whole."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, winograd

WIDE = replace(PRESETS["toy"], temporal_compression=4, channels=48, channel_multipliers=(1, 1))
"""Wide enough for Winograd convolutions, which must then stay away from all that has a gradient."""

LEARNT: dict[str, Callable[[str], bool]] = {
    "norms": lambda name: ".norm" in name,
    "encoder": lambda name: name.startswith("encoder."),
    "decoder": lambda name: name.startswith("decoder."),
    "first norm": lambda name: name.startswith("encoder.down.0.block.0.norm1."),
    "last norm": lambda name: name == "decoder.norm_out.weight",
    "first convolution": lambda name: name == "encoder.conv_in.spatial.weight",
    "a bias in space": lambda name: name == "decoder.up.0.block.0.conv1.spatial.bias",
    "a convolution in time": lambda name: name == "decoder.up.0.block.0.conv2.temporal.weight",
    "attention": lambda name: name.startswith("encoder.mid.temporal_attention.v."),
    "resampling": lambda name: ".upsample." in name or ".downsample." in name,
}


def gradients(model: CausalTokenizer, learnt: Callable[[str], bool]) -> dict[str, torch.Tensor]:
    for name, value in model.named_parameters():
        value.requires_grad_(learnt(name)).grad = None
    video = torch.rand(1, 3, 5, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model.reconstruct(video).square().mean().backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.fixture(scope="module")
def trained() -> tuple[CausalTokenizer, dict[str, torch.Tensor]]:
    """A net, and the gradients of all its weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CausalTokenizer(WIDE)
        for value in model.parameters():
            if value.dim() == 1:
                torch.nn.init.normal_(value, mean=0.5, std=0.3)
    return model, gradients(model, lambda name: True)


@pytest.mark.parametrize("learnt", LEARNT.values(), ids=LEARNT)
def test_what_is_learnt_has_the_gradient_of_the_whole_net(
    learnt: Callable[[str], bool], trained: tuple[CausalTokenizer, dict[str, torch.Tensor]]
) -> None:
    model, whole = trained
    found = gradients(model, learnt)
    assert found.keys() == {name for name in whole if learnt(name)} != set()
    noise = 1e-7 * max(float(value.abs().max()) for value in whole.values())
    for name, value in found.items():
        torch.testing.assert_close(value, whole[name], atol=noise + 1e-4 * float(whole[name].abs().max()), rtol=0)


def test_a_frozen_net_is_of_the_kind_that_takes_winograd(
    trained: tuple[CausalTokenizer, dict[str, torch.Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    conv2d = winograd.conv2d
    monkeypatch.setattr(winograd, "conv2d", lambda *given: taken.append(given) or conv2d(*given))
    gradients(trained[0], LEARNT["last norm"])
    assert taken
