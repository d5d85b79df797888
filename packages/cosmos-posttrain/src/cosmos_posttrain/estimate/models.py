"""The model that a name stands for, and the clips it is trained on unless others are asked for."""

from dataclasses import dataclass
from pathlib import Path

import cosmos_diffusion
import cosmos_tokenizer
from cosmos_diffusion import DiTConfig
from cosmos_diffusion.defaults import RELEASED, Defaults
from cosmos_posttrain.recipes import diffusion, tokenizer
from cosmos_tokenizer import InputError, TokenizerConfig

_TOKENIZER = "tokenizer:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """Frames of so many pixels; of one view, where a model has several."""

    frames: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A network's config, the clips it was made for, and how its codec compresses time and space."""

    name: str
    config: DiTConfig | TokenizerConfig
    clip: Clip
    compression: tuple[int, int]

    @property
    def kind(self) -> str:
        """In words."""
        return "tokenizer" if isinstance(self.config, TokenizerConfig) else "world model"


def find_model(name: str) -> Model:
    """Model of a preset, of shipped weights or of a checkpoint on this machine, without its values.

    A tokenizer's preset of the name of a world model's is had as ``tokenizer:NAME``.

    Raises:
        InputError: there is none, or the checkpoint is damaged.
        OSError: the checkpoint cannot be read.
    """
    asked = name.removeprefix(_TOKENIZER)
    if asked == name and name in cosmos_diffusion.PRESETS:
        return _world(name, cosmos_diffusion.PRESETS[name])
    if asked in cosmos_tokenizer.PRESETS:
        return _tokenizer(name, cosmos_tokenizer.PRESETS[asked])
    if not Path(name).exists():
        return _shipped(name)
    try:
        world = cosmos_diffusion.load(name)
    except InputError as not_a_world:
        try:
            return _tokenizer(name, cosmos_tokenizer.load(name).config)
        except InputError as error:
            raise InputError(f"neither a world model ({not_a_world}) nor a tokenizer ({error})") from error
    return _world(name, world.config, world.defaults)


def _shipped(name: str) -> Model:
    if "/" not in name:  # a hub id would be downloaded, for its config alone
        try:
            world = cosmos_diffusion.load(name)
            return _world(name, world.config, world.defaults)
        except InputError:
            pass
    names = ", ".join([*cosmos_diffusion.PRESETS, *cosmos_tokenizer.PRESETS])
    raise InputError(f"there is no model {name}: give a checkpoint's path, or one of {names}")


def _world(name: str, config: DiTConfig, defaults: Defaults | None = None) -> Model:
    """A world model and the clips of its defaults, of the recipe of its network, or else of the released ones."""
    given = [defaults, *(recipe.defaults for recipe in diffusion.RECIPES.values() if recipe.preset == name)]
    known = next((found for found in given if found is not None), None)
    found = known or RELEASED[config.prediction]
    clip = Clip(frames=found.frames, height=found.height, width=found.width)
    compression = _compression(name, found.tokenizer)
    if config.action_numbers:
        compression = (1, compression[1])  # each frame is encoded as a picture (arXiv 2501.03575, section 6.2)
    clip = clip if known else _released_clip(name, config, clip)
    return Model(name=name, config=config, clip=clip, compression=compression)


def _compression(name: str, tokenizer: str | None) -> tuple[int, int]:
    """Of time and of space, by the codec that a world model names; one that names none has Wan's."""
    if tokenizer is None:
        return 4, 8
    codec = cosmos_tokenizer.PRESETS.get(tokenizer)
    if codec is None:
        if not Path(tokenizer).exists():  # a hub id would be downloaded, for its config alone
            raise InputError(
                f"{name}: its tokenizer, {tokenizer}, is no preset and not on this machine: put the file there, or go "
                "to where it is"
            )
        codec = cosmos_tokenizer.load(tokenizer).config
    return codec.temporal_compression, codec.spatial_compression


def _released_clip(name: str, config: DiTConfig, clip: Clip) -> Clip:
    """What a network of the family was trained on, where that is not its kind's (arXiv 2501.03575, section 6)."""
    frames, height, width = clip.frames, clip.height, clip.width
    if config.views:
        frames, height, width = 57, 480, 848
    elif config.action_numbers:
        frames, height, width = 2, 256, 320
    elif config.camera_channels:
        frames = 57
    elif name.endswith("text2image"):
        frames = 1
    # Toys have small grids.
    return Clip(frames=frames, height=min(height, 8 * config.grid[1]), width=min(width, 8 * config.grid[2]))


def _tokenizer(name: str, config: TokenizerConfig) -> Model:
    """A tokenizer and the crops of the recipe of its network, or else of the released ones'."""
    recipes = tokenizer.RECIPES
    own = [recipe for recipe in recipes.values() if cosmos_tokenizer.PRESETS[recipe.preset] == config]
    data = (own[0] if own else recipes["tokenizer-released"]).data
    side = data.crop or max(data.sides)
    frames = 1 if config.media == "image" else max(data.frames)
    compression = (config.temporal_compression, config.spatial_compression)
    return Model(name=name, config=config, clip=Clip(frames=frames, height=side, width=side), compression=compression)
