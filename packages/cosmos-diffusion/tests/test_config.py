"""Configs: what goes together, and one line for what does not."""

from dataclasses import asdict

import pytest

from cosmos_diffusion import PRESETS, DiTConfig
from cosmos_tokenizer import InputError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_come_back_from_json(name: str) -> None:
    fields = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(PRESETS[name]).items()}
    assert DiTConfig.from_dict(fields) == PRESETS[name]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"heads": 5}, "heads is 5"),
        ({"heads": 8}, "8 heads is 6 each"),
        ({"blocks": 0}, "blocks is 0"),
        ({"blocks": True}, "blocks is True"),
        ({"width": 1 << 21}, "width is 2097152"),
        ({"patch": (1, 2)}, "patch is"),
        ({"grid": (16, 31, 32)}, "grid is"),
        ({"rope_ratio": (1.0, 0.0, 1.0)}, "rope_ratio is"),
        ({"mlp_ratio": -1.0}, "mlp_ratio is -1.0"),
        ({"mlp_ratio": 0.02}, "mlp_ratio is 0.02: of width 48"),
        ({"position": "sine"}, "position is 'sine': use learned or sincos or none"),
        ({"condition_mask": 1}, "condition_mask is 1"),
        ({"trajectory_channels": 6}, "set views"),
        ({"patch": (2, 2, 2), "condition_mask": True}, "one latent frame a token"),
    ],
)
def test_values_that_cannot_be_are_named(change: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        DiTConfig.from_dict(asdict(PRESETS["toy"]) | change)


def test_unknown_and_missing_fields_are_named() -> None:
    with pytest.raises(InputError, match="depth"):
        DiTConfig.from_dict(asdict(PRESETS["toy"]) | {"depth": 3})
