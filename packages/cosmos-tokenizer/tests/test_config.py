"""Configs: where each released net halves and doubles, and what a config refuses."""

import json
from dataclasses import asdict, replace

import pytest

from cosmos_tokenizer import PRESETS, InputError, TokenizerConfig

# Name, halvings of encoder levels and doublings of decoder levels from high to low resolution: S space, T time, - none.
PLANS = [
    ("ci8x8-0.1", "S - -", "- - S"),
    ("ci16x16-0.1", "S S -", "- S S"),
    ("di16x16-0.1", "S S -", "- S S"),
    ("cv4x8x8-0.1", "S -", "- S"),
    ("cv8x8x8-0.1", "ST - -", "- ST -"),
    ("cv8x16x16-0.1", "ST S -", "- ST S"),
    ("dv4x8x8-0.1", "S - -", "- - S"),
    ("dv8x16x16-720p", "ST S -", "- ST S"),
    ("ci8x8-360p", "S S -", "- S S"),
    ("di16x16-360p", "S S S", "S S S"),
    ("cv4x8x8-360p", "ST S -", "- ST S"),
    ("dv4x8x8-360p", "ST S -", "- ST S"),
]


def letters(plan: tuple) -> str:
    return " ".join(("S" * level.spatial + "T" * level.temporal) or "-" for level in plan)


@pytest.mark.parametrize(("name", "down", "up"), PLANS)
def test_levels_resample_where_the_released_net_does(name: str, down: str, up: str) -> None:
    assert letters(PRESETS[name].downsamples) == down
    assert letters(PRESETS[name].upsamples) == up


def test_legacy_nets_double_time_at_the_lowest_resolution() -> None:
    assert letters(replace(PRESETS["cv8x8x8-0.1"], legacy_upsample=True).upsamples) == "- - ST"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 3}, "patch_size is 3: it must be a power of two"),
        ({"spatial_compression": 2}, "patch_size is 4: it compresses more"),
        ({"spatial_compression": 64}, "give a compression of 8x16x16, not 8x64x64"),
        ({"channels": 0}, "channels is 0"),
        ({"channel_multipliers": ()}, r"channel_multipliers is \(\)"),
        ({"levels": (8, 8)}, "a continuous tokenizer has none"),
        ({"kind": "discrete", "levels": (8, 8)}, "give 4 numbers"),
        ({"norm_groups": 3}, "norm_groups is 3: it must divide every width, and"),
        ({"media": "image"}, "temporal_compression is 8: an image tokenizer has 1"),
    ],
)
def test_a_config_that_cannot_be_built_is_named(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(PRESETS["toy"], **change)


@pytest.mark.parametrize(("change", "value"), [({"media": "audio"}, "audio"), ({"kind": "fuzzy"}, "fuzzy")])
def test_a_word_that_is_not_known_is_named(change: dict, value: str) -> None:
    with pytest.raises(InputError, match=value):
        TokenizerConfig.from_dict(asdict(PRESETS["toy"]) | change)


def test_unknown_fields_are_named() -> None:
    with pytest.raises(InputError, match="(?s)not a tokenizer config.*colour"):
        TokenizerConfig.from_dict(asdict(PRESETS["toy"]) | {"colour": 3})


def test_a_config_survives_json() -> None:
    config = PRESETS["dv8x16x16-720p"]
    assert TokenizerConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, bad) for name in ("channels", "patch_size", "norm_groups") for bad in (8.0, True, "8", None, [8])),
        ("channels", 10**12),
        ("encoder_blocks", 10**9),
        ("decoder_blocks", 1025),
        ("channel_multipliers", [1.5]),
        ("channel_multipliers", [True, 2]),
        ("channel_multipliers", [[1]]),
        ("channel_multipliers", 2),
        ("channel_multipliers", [1] * 65),
        ("levels", None),
        ("legacy_upsample", 1),
        ("media", ["video"]),
    ],
)
def test_a_json_field_of_another_type_or_size_is_named(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"^{field} is .*: it must be"):
        TokenizerConfig.from_dict(asdict(PRESETS["toy"]) | {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channels", 3.5),
        ("channels", True),
        ("patch_size", "4"),
        ("decoder_blocks", 1025),
        ("channel_multipliers", [2, 4]),
        ("channel_multipliers", (2, 4.0)),
        ("levels", None),
        ("legacy_upsample", 1),
        ("kind", 3),
    ],
)
def test_a_config_made_in_python_is_held_to_the_same_types(field: str, value: object) -> None:
    config = object.__new__(TokenizerConfig)  # past a run-time type checker, which users do not have
    for name, given in (asdict(PRESETS["toy"]) | {field: value}).items():
        object.__setattr__(config, name, given)
    with pytest.raises(InputError, match=f"^{field} is .*: it must be"):
        config.__post_init__()
