"""The networks against a plain float64 one that works on native tensors: for what diffusers has no class for."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cosmos_tokenizer import PRESETS, CausalTokenizer, TokenizerConfig
from cosmos_tokenizer.native import to_native


class Reference:
    """Encoder and decoder on ``B C T H W``, image nets with T = 1; everything looked up by native name.

    Args:
        weights: native state dict.
        image, patch, groups: of the network.
    """

    def __init__(self, weights: Mapping[str, Tensor], *, image: bool, patch: int, groups: int) -> None:
        self.w = {name: value.double() for name, value in weights.items()}
        self.image, self.patch, self.groups = image, patch, groups

    def has(self, name: str) -> bool:
        return any(key.startswith(name + ".") for key in self.w)

    def conv(self, x: Tensor, name: str, stride: tuple[int, int, int] = (1, 1, 1), pad: bool = True) -> Tensor:
        name = name if f"{name}.weight" in self.w else f"{name}.conv3d"
        weight, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        weight = weight if weight.dim() == 5 else weight[:, :, None]
        # Before the first frame stand copies of it, one less where the stride has already put one there.
        x = torch.cat([x[:, :, :1]] * (weight.shape[2] - stride[0]) + [x], dim=2)
        margin = weight.shape[3] // 2 if pad else 0
        return F.conv3d(F.pad(x, (margin,) * 4), weight, bias, stride)

    def conv_pair(self, x: Tensor, name: str) -> Tensor:
        return self.conv(x, name) if self.image else self.conv(self.conv(x, f"{name}.0"), f"{name}.1")

    def norm(self, x: Tensor, name: str) -> Tensor:
        name = name if self.image else f"{name}.norm"
        frames = []
        for frame in x.unbind(2):
            rows = frame.flatten(1).view(len(frame), self.groups, -1)
            rows = (rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
            frames.append(rows.view(frame.shape))
        shape = (1, -1, 1, 1, 1)
        return torch.stack(frames, 2) * self.w[f"{name}.weight"].view(shape) + self.w[f"{name}.bias"].view(shape)

    def block(self, x: Tensor, name: str) -> Tensor:
        h = self.conv_pair(F.silu(self.norm(x, f"{name}.norm1")), f"{name}.conv1")
        h = self.conv_pair(F.silu(self.norm(h, f"{name}.norm2")), f"{name}.conv2")
        return h + (self.conv(x, f"{name}.nin_shortcut") if self.has(f"{name}.nin_shortcut") else x)

    def attention(self, x: Tensor, name: str, over: str) -> Tensor:
        h = self.norm(x, f"{name}.norm")
        q, k, v = (self.conv(h, f"{name}.{part}").flatten(3) for part in "qkv")
        scale = 1 / math.sqrt(x.shape[1])
        if over == "space":
            scores = torch.einsum("bctl,bctm->btlm", q, k) * scale
            o = torch.einsum("btlm,bctm->bctl", scores.softmax(-1), v)
        else:
            scores = torch.einsum("bctl,bcsl->blts", q, k) * scale
            later = torch.ones(x.shape[2], x.shape[2]).triu(1).bool()
            o = torch.einsum("blts,bcsl->bctl", scores.masked_fill(later, -math.inf).softmax(-1), v)
        return x + self.conv(o.view(x.shape), f"{name}.proj_out")

    def mid(self, x: Tensor, name: str) -> Tensor:
        x = self.block(x, f"{name}.block_1")
        if self.image:
            x = self.attention(x, f"{name}.attn_1", "space")
        else:
            x = self.attention(self.attention(x, f"{name}.attn_1.0", "space"), f"{name}.attn_1.1", "time")
        return self.block(x, f"{name}.block_2")

    def down(self, x: Tensor, name: str) -> Tensor:
        if self.has(f"{name}.conv"):
            return self.conv(F.pad(x, (0, 1, 0, 1)), f"{name}.conv", (1, 2, 2), pad=False)
        if self.has(f"{name}.conv1"):
            x = F.pad(x, (0, 1, 0, 1))
            x = self.conv(x, f"{name}.conv1", (1, 2, 2), pad=False) + F.avg_pool3d(x, (1, 2, 2))
        if self.has(f"{name}.conv2"):
            x = torch.cat([x[:, :, :1], x], dim=2)
            x = self.conv(x, f"{name}.conv2", (2, 1, 1)) + F.avg_pool3d(x, (2, 1, 1))
        return self.conv(x, f"{name}.conv3") if self.has(f"{name}.conv3") else x

    def up(self, x: Tensor, name: str) -> Tensor:
        if self.has(f"{name}.conv"):
            return self.conv(x.repeat_interleave(2, 3).repeat_interleave(2, 4), f"{name}.conv")
        if self.has(f"{name}.conv1"):
            x = x.repeat_interleave(2, 2)[:, :, 1:]
            x = x + self.conv(x, f"{name}.conv1")
        if self.has(f"{name}.conv2"):
            x = x.repeat_interleave(2, 3).repeat_interleave(2, 4)
            x = x + self.conv(x, f"{name}.conv2")
        return self.conv(x, f"{name}.conv3") if self.has(f"{name}.conv3") else x

    def signs(self) -> Tensor:
        """Bands by 2x2x2 (1x2x2) samples: +1 or -1. A bit of a band says which axis it is high in."""
        if self.image:  # First bit width, second height.
            bands = [[(1, -1)[wide * x] * (1, -1)[high * y] for y, x in PAIRS] for wide, high in PAIRS]
        else:  # First bit time, then height, then width.
            bands = [
                [(1, -1)[late * t] * (1, -1)[high * y] * (1, -1)[wide * x] for t, y, x in TRIPLES]
                for late, high, wide in TRIPLES
            ]
        return torch.tensor(bands, dtype=torch.float64)

    def patched(self, x: Tensor) -> Tensor:
        if not self.image:
            x = torch.cat([x[:, :, :1]] * (self.patch - 1) + [x], dim=2)
        p = 1 if self.image else 2
        for _ in range(int(math.log2(self.patch))):
            b, c, t, h, w = x.shape
            cells = x.reshape(b, c, t // p, p, h // 2, 2, w // 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7).flatten(5)
            x = torch.einsum("bcthwn,sn->bscthw", cells, self.signs() / 4 / p).flatten(1, 2)
        return x

    def unpatched(self, y: Tensor) -> Tensor:
        p = 1 if self.image else 2
        for _ in range(int(math.log2(self.patch))):
            bands = y.unflatten(1, (4 * p, -1))
            cells = torch.einsum("bscthw,sn->bcthwn", bands, self.signs()).unflatten(-1, (p, 2, 2))
            y = cells.permute(0, 1, 2, 5, 3, 6, 4, 7).flatten(2, 3).flatten(3, 4).flatten(4, 5)
        return y if self.image else y[:, :, self.patch - 1 :]

    def encode(self, x: Tensor) -> Tensor:
        h = self.conv_pair(self.patched(x.double()), "encoder.conv_in")
        for level in itertools.takewhile(lambda i: self.has(f"encoder.down.{i}"), itertools.count()):
            for block in itertools.takewhile(
                lambda j, i=level: self.has(f"encoder.down.{i}.block.{j}"), itertools.count()
            ):
                h = self.block(h, f"encoder.down.{level}.block.{block}")
            h = self.down(h, f"encoder.down.{level}.downsample")
        h = self.norm(self.mid(h, "encoder.mid"), "encoder.norm_out")
        return self.conv(self.conv_pair(F.silu(h), "encoder.conv_out"), "quant_conv")

    def decode(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_pair(self.conv(z.double(), "post_quant_conv"), "decoder.conv_in"), "decoder.mid")
        levels = list(itertools.takewhile(lambda i: self.has(f"decoder.up.{i}"), itertools.count()))
        for level in reversed(levels):
            for block in itertools.takewhile(
                lambda j, i=level: self.has(f"decoder.up.{i}.block.{j}"), itertools.count()
            ):
                h = self.block(h, f"decoder.up.{level}.block.{block}")
            h = self.up(h, f"decoder.up.{level}.upsample")
        return self.unpatched(self.conv_pair(F.silu(self.norm(h, "decoder.norm_out")), "decoder.conv_out"))


PAIRS = list(itertools.product((0, 1), repeat=2))
TRIPLES = list(itertools.product((0, 1), repeat=3))

NARROW = {"channels": 4, "channel_multipliers": (1, 2, 3), "z_channels": 5, "encoder_blocks": 1, "decoder_blocks": 2}
CONFIGS = {
    name: replace(PRESETS[name], **(NARROW | {"norm_groups": 2 if PRESETS[name].norm_groups > 1 else 1}))
    for name in PRESETS
    if not name.startswith(("toy", "nano"))
}
CONFIGS["legacy 8x8x8"] = replace(CONFIGS["cv8x8x8-0.1"], legacy_upsample=True)
CONFIGS["legacy 8x16x16"] = replace(CONFIGS["cv8x16x16-0.1"], legacy_upsample=True)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_the_network_is_the_plain_one(
    config: TokenizerConfig, random_tokenizer: Callable[..., CausalTokenizer]
) -> None:
    model = random_tokenizer(config).double()
    image = config.media == "image"
    plain = Reference(to_native(model, "both"), image=image, patch=config.patch_size, groups=config.norm_groups)
    clip = torch.rand(2, 3, 1 if image else 1 + config.temporal_compression * 2, 32, 48).double() * 2 - 1

    z = plain.encode(clip)
    torch.testing.assert_close(model.encode_raw(clip), z, atol=1e-9, rtol=0)
    z = torch.randn_like(z)
    if config.kind == "discrete":
        z = model.codes(torch.randint(config.codebook_size, (z.shape[0], *z.shape[2:])))
    video = plain.decode(z)
    assert video.shape == clip.shape
    torch.testing.assert_close(model.decode_raw(z), video, atol=1e-9, rtol=0)


@torch.no_grad()
def test_indices_count_the_thresholds_that_a_latent_passes(random_tokenizer: Callable[..., CausalTokenizer]) -> None:
    config = CONFIGS["di8x8-0.1"]
    model = random_tokenizer(config)
    picture = torch.rand(2, 3, 64, 64) * 2 - 1
    # Untrained latents hardly vary: spread them over the levels.
    last, z = model.encoder.quant_conv, model.encode_raw(picture.unsqueeze(2))
    std, mean = torch.std_mean(z, dim=(0, 2, 3, 4))
    last.weight.div_(std[:, None, None, None])
    last.bias.sub_(mean).div_(std)
    plain = Reference(to_native(model, "both"), image=True, patch=4, groups=config.norm_groups)
    z = plain.encode(picture.unsqueeze(2))
    eight = torch.tensor([-1.42295, -0.79249, -0.43728, -0.14370, 0.14989, 0.50510, 1.13556])
    five = torch.tensor([-0.97124, -0.25515, 0.25515, 0.97124])
    digits = [(z[:, c, ..., None] > (eight if c < 3 else five)).sum(-1) for c in range(6)]
    indices = sum(digit * base for digit, base in zip(digits, (1, 8, 64, 512, 2560, 12800), strict=True))
    # A latent within rounding of a threshold may fall on either side.
    assert (model.encode(picture) == indices.squeeze(1)).float().mean() > 0.99
    assert indices.unique().numel() > 20
