"""The config of a foreign checkpoint: what its file says, and what it cannot say, from the nearest released network.

Neither shapes nor diffusers' config.json say how rotary frequencies are stretched, what the output means, or how much
text there is. Released networks with the same conditionings agree in that, whatever their size.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.presets import PRESETS
from cosmos_tokenizer import InputError

_CONDITIONINGS = (
    "condition_mask",
    "camera_channels",
    "token_channels",
    "padding_mask",
    "views",
    "trajectory_channels",
    "action_numbers",
    "text_projection",
)
_UNTRAINED = ("toy", "nano")
"""How the names of presets begin that are of this package alone: they say nothing of networks of another shape."""


def completed(known: Mapping[str, object], given: DiTConfig | None, belongs: Callable[[DiTConfig], bool]) -> DiTConfig:
    """Config with the fields that a file says.

    Args:
        known: those fields.
        given: the config, where the caller gave one.
        belongs: whether a preset may be of such a file.

    Raises:
        InputError: ``given`` contradicts the file, or what the file says cannot be.
    """
    if given is not None:
        check_given(given, known)
        return given
    presets = {name: preset for name, preset in PRESETS.items() if belongs(preset)}
    for preset in presets.values():
        if all(getattr(preset, name) == value for name, value in known.items()):
            return preset
    released = [preset for name, preset in presets.items() if not name.startswith(_UNTRAINED)]
    # Checked on any of them first, so that what is compared has the right types.
    config = DiTConfig.from_dict(asdict(released[0]) | dict(known))
    nearest = min(released, key=lambda preset: _distance(preset, config, known))
    return DiTConfig.from_dict(asdict(nearest) | dict(known))


def check_given(given: DiTConfig, known: Mapping[str, object]) -> None:
    """Raise where a config contradicts a file.

    Raises:
        InputError: naming the first field that differs.
    """
    for name, value in known.items():
        if getattr(given, name) != value:
            raise InputError(f"the config given has {name} {getattr(given, name)}, and the file {value}")


def _distance(preset: DiTConfig, config: DiTConfig, known: Mapping[str, object]) -> tuple[int, bool, float]:
    flags = [name for name in _CONDITIONINGS if name in known]
    different = sum(bool(getattr(preset, name)) != bool(getattr(config, name)) for name in flags)
    return different, preset.position != config.position, abs(math.log(preset.width / config.width))
