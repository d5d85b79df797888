"""Settings of the motion stage, with their units."""

from dataclasses import dataclass, fields

from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Sampling


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """Which frames are compared, and from where on a motion has a name.

    Speeds are root mean squares over the picture in diagonals a second. A zoom of 1 % a second is 0.0029 of these, a
    turn of 1 degree a second 0.005.

    Args:
        rate: frames compared a second.
        short_side: pixels of the frames' shorter side.
        slow: a pan, tilt, zoom or roll starts at this speed, and lasts while it keeps half of it.
        beside: it must also be this share of the camera's whole speed, shake included: a slow roll beside a fast pan
            has no name.
        against: and this share of the scene's own motion: where much moves by itself, a slow camera is a guess.
        lasting_s: it goes one way for so many seconds, or half of a shorter clip.
        share: its parts make up this share of the clip.
        smooth_s: what sways faster than about twice this many seconds is shake, and no pan.
        shaky: shake starts at this speed.
        shaky_beside: and at this share of the camera's speed, and at `against` of the scene's; the calmest three
            quarters of the clip count.
        prefilter: whether a clip whose frames and motion vectors both say that nothing moves is spared the flow.
        still_vectors: motion vectors (diagonals a second) up to which nothing moves.
        still_levels: gray levels, as a mean over small blocks, by which no frame may differ from the first.
    """

    rate: float = 8.0
    short_side: int = 144
    slow: float = 0.006
    beside: float = 0.25
    against: float = 0.35
    lasting_s: float = 0.75
    share: float = 0.25
    smooth_s: float = 0.5
    shaky: float = 0.004
    shaky_beside: float = 0.08
    prefilter: bool = True
    still_vectors: float = 0.002
    still_levels: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("prefilter", "still_vectors", "still_levels") and not 0 < value < float("inf"):
                raise InputError(f"motion: {field.name} is {value}; give a number above 0")
        for name in ("still_vectors", "still_levels"):
            if not getattr(self, name) >= 0:
                raise InputError(f"motion: {name} is {getattr(self, name)}; give 0 or more")
        for name in ("beside", "against", "share"):
            if getattr(self, name) > 1:
                raise InputError(f"motion: {name} is {getattr(self, name)}; it is a share: give at most 1")
        if self.short_side < 32:
            raise InputError(f"motion: short_side is {self.short_side}; flow needs at least 32 pixels")

    @property
    def sampling(self) -> Sampling:
        """The frames that the stage asks for."""
        return Sampling(rate=self.rate, short_side=self.short_side, gray=True)
