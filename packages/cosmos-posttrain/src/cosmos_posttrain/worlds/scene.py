"""What a scene is: things that move, what they stand on, how it begins, what it is called, and where to look."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from numpy.random import Generator

from cosmos_posttrain.worlds.colours import Colour, rgba

Vector = tuple[float, float, float]
Shape = Literal["ball", "box", "cylinder", "capsule", "egg"]
TYPES: Mapping[Shape, str] = {
    "ball": "sphere",
    "box": "box",
    "cylinder": "cylinder",
    "capsule": "capsule",
    "egg": "ellipsoid",
}
"""MuJoCo's names of the shapes."""
SKINS = ("checks", "stripes", "clouds")
"""Patterns of things, whose materials `skin0`, `skin1` and `skin2` every scene has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """An object that moves, a body of the scene by its name; lengths in metres."""

    colour: Colour
    shape: Shape
    size: tuple[float, ...]
    """Half extents as MuJoCo has them: of a ball its radius, of a cylinder radius and half its length."""
    skin: int
    density: float = 500.0
    friction: float = 0.8
    bounce: float = 1.0
    """Damping ratio of contacts: at 1 it does not bounce, towards 0 it bounces as a rubber ball does."""
    noun: str | None = None
    """What it is called, where that is not its shape."""

    @property
    def name(self) -> str:
        """Colour and noun, such as ``red ball``; unique in a scene, as colours are."""
        return f"{self.colour.name} {self.noun or self.shape}"

    @property
    def a_name(self) -> str:
        """The name behind its article."""
        return f"{'an' if self.name[0] == 'o' else 'a'} {self.name}"

    def geom(self) -> str:
        """The thing as a MJCF geom."""
        size = " ".join(f"{extent:.4f}" for extent in self.size)
        touch = f'friction="{self.friction:.3f}" solref="0.01 {self.bounce:.3f}" density="{self.density:.1f}"'
        return f'<geom type="{TYPES[self.shape]}" size="{size}" {touch} {self.paint()}/>'

    def paint(self) -> str:
        """Material and colour as attributes of a MJCF geom."""
        return f'material="skin{self.skin}" rgba="{rgba(self.colour.rgb)}"'

    def body(self, position: Vector, *, turn: Vector = (0.0, 0.0, 0.0)) -> str:
        """The thing as a free body at a place, turned by Euler angles in degrees."""
        place = f'pos="{_text(position)}" euler="{_text(turn)}"'
        return f'<body name="{self.name}" {place}><freejoint/>{self.geom()}</body>'


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Where cameras look, and from where the first one may."""

    focus: Vector
    reach: float
    """Metres around `focus` that a picture shows."""
    side: float = 40.0
    """Degrees by which the first camera may stand off the y axis, on either end of it; motion runs along x."""
    elevation: tuple[float, float] = (8.0, 30.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One random instance of a kind of scene, without its surroundings. Units are metres, seconds, kg and radians."""

    caption: str
    """One line in plain English."""
    things: tuple[Thing, ...]
    bodies: str = field(repr=False)
    """MJCF of everything but floor, walls, light and cameras; fixed parts have the material `fixture`."""
    view: View
    velocities: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By body, the first velocities of its joint's degrees of freedom, as MuJoCo orders them."""
    extra: str = field(default="", repr=False)
    """MJCF sections behind the bodies."""
    integrator: Literal["implicitfast", "RK4"] = "implicitfast"
    parameters: Mapping[str, float] = field(default_factory=dict)
    """What the scene's physics can be predicted from, and was not drawn as a thing."""


def draw_skin(rng: Generator) -> int:
    """Return the number of a pattern for a thing."""
    return int(rng.integers(len(SKINS)))


def enumerated(words: list[str]) -> str:
    """Return words as a list in English: ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def capitalised(text: str) -> str:
    """Return a sentence with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def _text(numbers: Vector) -> str:
    return " ".join(f"{number:.5f}" for number in numbers)
