"""What the shapes of a native checkpoint say about its network, and what they leave to ``preset``."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, TokenizerConfig
from cosmos_tokenizer.native import from_native, slots, to_native

RELEASED = {name: config for name, config in PRESETS.items() if not name.startswith(("toy", "nano"))}
ODD = {
    "channels": 6,
    "channel_multipliers": (1, 3, 2),
    "z_channels": 7,
    "encoder_blocks": 2,
    "decoder_blocks": 1,
    "norm_groups": 1,
}


def zeros(config: TokenizerConfig, parts: str = "both") -> dict[str, Tensor]:
    """Native tensors of a network, buffers and dead convolutions left out."""
    return {slot.name: torch.zeros(slot.shape) for slot in slots(config, parts).values()}


def full(config: TokenizerConfig) -> dict[str, Tensor]:
    """The same with every convolution between levels, as the modules of 2024 have them."""
    weights = zeros(config)
    kernels = {"down": ((1, 3, 3), (3, 1, 1), (1, 1, 1)), "up": ((3, 1, 1), (1, 3, 3), (1, 1, 1))}
    last = len(config.widths) - 1
    for level, width in enumerate(config.widths):
        for half, way, present in (("encoder", "down", level < last), ("decoder", "up", level > 0)):
            for number, kernel in enumerate(kernels[way] if present else (), start=1):
                name = f"{half}.{way}.{level}.{way}sample.conv{number}.conv3d"
                weights[f"{name}.weight"] = torch.zeros(width, width, *kernel)
                weights[f"{name}.bias"] = torch.zeros(width)
    return weights


@pytest.mark.parametrize("name", RELEASED)
def test_a_pruned_network_of_odd_widths_is_read_off_its_shapes(name: str) -> None:
    config = replace(
        RELEASED[name], **(ODD if len(RELEASED[name].widths) == 3 else ODD | {"channel_multipliers": (1, 3)})
    )
    read, parts, state = from_native(zeros(config), None)
    assert (read, parts) == (config, "both")
    assert state.keys() == CausalTokenizer(config).state_dict().keys()


@pytest.mark.parametrize("name", RELEASED)
def test_groups_are_those_of_the_released_network_where_they_divide(name: str) -> None:
    released = RELEASED[name]
    wide = replace(released, channels=32, channel_multipliers=(1,) * len(released.widths), encoder_blocks=1)
    narrow = replace(wide, channels=8, norm_groups=1)
    assert from_native(zeros(wide), None)[0] == wide
    assert from_native(zeros(narrow), None)[0] == narrow


@pytest.mark.parametrize("name", ["ci8x8-0.1", "di16x16-0.1", "ci16x16-360p", "di16x16-360p", "cv8x8x8-0.1"])
@pytest.mark.parametrize("width", [32, 96])
def test_a_decoder_alone_has_the_groups_it_has_in_the_whole(name: str, width: int) -> None:
    # Its levels are as wide as the base, which a decoder does not hold: half of that is no multiple of 32.
    config = replace(
        PRESETS[name], channels=width, channel_multipliers=(1,) * len(PRESETS[name].widths), decoder_blocks=1
    )
    decoder = {key: value for key, value in zeros(config).items() if key.startswith(("decoder.", "post_quant_conv."))}
    for preset in (None, PRESETS[name]):
        alone, parts, _ = from_native(decoder, preset)
        assert parts == "decoder"
        assert (alone.norm_groups, alone.widths) == (config.norm_groups, config.widths)


def test_a_preset_says_the_groups() -> None:
    config = replace(PRESETS["ci8x8-0.1"], channels=8, norm_groups=4)
    assert from_native(zeros(config), config)[0].norm_groups == 4
    assert from_native(zeros(config), None)[0].norm_groups == 1
    with pytest.raises(InputError, match="norm_groups 32, which does not divide the file's width 8"):
        from_native(zeros(config), PRESETS["ci8x8-0.1"])


@pytest.mark.parametrize("name", ["cv8x8x8-0.1", "cv8x16x16-0.1"])
def test_legacy_order_shows_in_a_pruned_file(name: str) -> None:
    config = replace(PRESETS[name], **ODD, legacy_upsample=True)
    assert from_native(zeros(config), None)[0] == config
    assert from_native(zeros(config), PRESETS[name])[0] == config


@pytest.mark.parametrize("name", ["cv8x8x8-0.1", "cv8x16x16-0.1", "dv4x8x8-0.1", "dv8x8x8-0.1", "dv8x16x16-0.1"])
def test_a_full_file_needs_a_preset_and_loses_its_dead_convolutions(name: str) -> None:
    config = replace(PRESETS[name], **ODD)
    with pytest.raises(InputError, match=f"preset= .*{name}"):
        from_native(full(config), None)
    read, _, state = from_native(full(config), PRESETS[name])
    assert read == config
    assert state.keys() == CausalTokenizer(config).state_dict().keys()


def test_a_full_file_takes_legacy_order_from_a_config() -> None:
    config = replace(PRESETS["cv8x8x8-0.1"], **ODD, legacy_upsample=True)
    assert from_native(full(config), config)[0] == config


def test_a_full_file_of_two_levels_is_the_one_network_released_so() -> None:
    config = replace(PRESETS["cv4x8x8-0.1"], **(ODD | {"channel_multipliers": (1, 3)}))
    assert from_native(full(config), None)[0] == config


def test_candidates_are_named_without_those_of_the_other_kind() -> None:
    with pytest.raises(InputError) as caught:
        from_native(full(replace(PRESETS["cv8x8x8-0.1"], **ODD)), None)
    assert "cv8x16x16-0.1" in str(caught.value)
    assert "dv" not in str(caught.value)


@pytest.mark.parametrize("parts", ["encoder", "decoder"])
@pytest.mark.parametrize("name", ["cv8x16x16-0.1", "di16x16-360p"])
def test_a_half_of_released_proportions_has_the_config_of_the_whole(name: str, parts: str) -> None:
    config = replace(PRESETS[name], channels=16, norm_groups=1)
    assert from_native(zeros(config, parts), None)[:2] == (config, parts)


def test_a_preset_completes_a_half() -> None:
    config = replace(PRESETS["dv8x8x8-0.1"], **ODD)
    assert from_native(zeros(config, "decoder"), config)[0] == config
    assert from_native(zeros(config, "encoder"), config)[0] == config


def test_levels_come_from_the_quantiser_where_the_file_holds_it() -> None:
    config = replace(PRESETS["dv8x8x8-0.1"], **ODD, levels=(7, 5, 4), latent_channels=3)
    for prefix in ("quantizer", "inv_quant.quantizer"):
        weights = zeros(config) | {f"{prefix}._levels": torch.tensor([7, 5, 4], dtype=torch.int32)}
        assert from_native(weights, None)[0] == config
    assert from_native(zeros(config), config)[0] == config
    assert from_native(zeros(config), None)[0].kind == "continuous"


def test_buffers_are_no_keys_of_the_network() -> None:
    config = replace(PRESETS["di8x8-0.1"], **ODD)
    buffers = {
        "encoder.patcher.wavelets": torch.ones(2),
        "encoder.patcher._arange": torch.arange(2),
        "encoder.patcher.patch_size_buffer": torch.tensor([4]),
        "decoder.unpatcher.wavelets": torch.ones(2),
        "quantizer._basis": torch.arange(6),
        "quantizer.implicit_codebook": torch.full((9, 6), float("nan")),
    }
    assert from_native(zeros(config) | buffers, None)[0] == config


@pytest.mark.parametrize(
    ("name", "preset", "message"),
    [
        ("cv8x8x8-0.1", "cv8x16x16-0.1", "compresses 8x16x16, and .* 8x8x8"),
        ("cv8x8x8-0.1", "dv8x8x8-0.1", "discrete .* continuous"),
        ("dv8x8x8-0.1", "cv8x8x8-0.1", "continuous, and .* discrete"),
        ("cv4x8x8-360p", "cv8x8x8-0.1", "patch_size 4, and the file 2"),
        ("ci8x8-0.1", "cv8x8x8-0.1", "tokenizer of video, and .* image"),
        ("ci8x8-0.1", "ci16x16-0.1", "compresses 1x16x16, and .* 1x8x8"),
    ],
)
def test_a_preset_that_contradicts_the_file_is_refused(name: str, preset: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_native(zeros(replace(PRESETS[name], **ODD)), PRESETS[preset])


def test_halves_of_different_depth_are_refused() -> None:
    deep, flat = replace(PRESETS["cv8x8x8-0.1"], **ODD), replace(PRESETS["cv4x8x8-0.1"], channels=6)
    with pytest.raises(InputError, match=r"encoder has 3 levels, .* and the decoder 2"):
        from_native(zeros(deep, "encoder") | zeros(flat, "decoder"), None)


CONFIG = replace(PRESETS["dv8x16x16-0.1"], **ODD)
KEYS = list(zeros(CONFIG))


@pytest.mark.parametrize("key", KEYS[::29])
def test_any_missing_key_is_named(key: str) -> None:
    weights = zeros(CONFIG)
    del weights[key]
    with pytest.raises(InputError, match=f"key {key} is missing"):
        from_native(weights, None)


@pytest.mark.parametrize("key", KEYS[::29])
def test_any_misshapen_key_is_named(key: str) -> None:
    weights = zeros(CONFIG)
    weights[key] = torch.zeros(weights[key].shape[0] + 1, *weights[key].shape[1:])
    with pytest.raises(InputError, match=f"key {key} has shape"):
        from_native(weights, None)


@pytest.mark.parametrize("count", range(4, len(KEYS) - 4, 31))
def test_a_dict_that_stops_early_names_a_key_that_is_missing(count: int) -> None:
    weights = zeros(CONFIG)
    kept = {key: weights[key] for key in KEYS[:count]}
    with pytest.raises(InputError, match="is missing|truncated"):
        from_native(kept, None)


@pytest.mark.parametrize("part", ["encoder.down.0.downsample.conv2", "decoder.up.1.upsample.conv1"])
def test_a_convolution_between_levels_that_is_gone_is_named(part: str) -> None:
    weights = {name: value for name, value in zeros(CONFIG).items() if not name.startswith(part)}
    with pytest.raises(InputError, match=f"key {part}.conv3d.weight is missing"):
        from_native(weights, None)


@pytest.mark.parametrize("key", ["encoder.extra.weight", "decoder.up.0.block.0.norm1.norm.scale"])
def test_an_unexpected_key_is_named(key: str) -> None:
    with pytest.raises(InputError, match=f"key {key} is unexpected"):
        from_native(zeros(CONFIG) | {key: torch.zeros(6)}, None)


def test_a_convolution_between_levels_too_many_is_refused() -> None:
    weights = zeros(replace(PRESETS["dv4x8x8-0.1"], **ODD))
    weights["encoder.down.2.downsample.conv1.conv3d.weight"] = torch.zeros(12, 12, 1, 3, 3)
    with pytest.raises(InputError, match=r"key encoder.down.2.downsample.conv1 is unexpected"):
        from_native(weights, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_key_that_is_not_finite_is_named(value: float) -> None:
    weights = zeros(CONFIG)
    weights[KEYS[40]].view(-1)[3] = value
    with pytest.raises(InputError, match=f"key {KEYS[40]} holds NaN or infinite"):
        from_native(weights, None)


def test_a_key_of_integers_is_named() -> None:
    with pytest.raises(InputError, match=f"key {KEYS[3]} holds torch.int32"):
        from_native(zeros(CONFIG) | {KEYS[3]: zeros(CONFIG)[KEYS[3]].int()}, None)


def test_channels_that_are_no_patch_are_named() -> None:
    weights = zeros(CONFIG, "encoder")
    weights["encoder.conv_in.0.conv3d.weight"] = torch.zeros(6, 100, 1, 3, 3)
    with pytest.raises(InputError, match="encoder.conv_in.0.weight .* 100 channels"):
        from_native(weights, None)


@pytest.mark.parametrize("prefix", ["network.", "ema.network-"])
def test_weights_of_a_training_checkpoint_are_found(
    prefix: str, random_tokenizer: Callable[..., CausalTokenizer]
) -> None:
    config = replace(PRESETS["dv8x8x8-0.1"], **ODD)
    weights = to_native(random_tokenizer(config), "both")
    current = {f"network.{name}": value + (prefix != "network.") for name, value in weights.items()}
    current["network.quantizer._levels"] = torch.tensor(config.levels)
    averaged = {"ema.network-" + name.replace(".", "-"): value for name, value in weights.items()}
    read, _, state = from_native(current | (averaged if prefix != "network." else {}), None)
    assert read == config
    assert all(
        torch.equal(state[here], weights[slot.name].view(slot.shape_here)) for here, slot in slots(read, "both").items()
    )
