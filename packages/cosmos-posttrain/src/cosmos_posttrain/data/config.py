"""How samples become batches: lengths, sizes, augmentation, and how many at a time."""

from dataclasses import dataclass

from cosmos_tokenizer import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamConfig:
    """Lengths, sizes and augmentation of batches; the defaults of the last four are those of the released recipes.

    Raises:
        InputError: a value makes no sense.
    """

    batch: int
    """Clips of a global batch, whatever the number of processes; of those whose batches are the largest, where clips
    have several lengths or sizes: the others' batches are so many times larger, for about equal memory."""
    frames: tuple[int, ...]
    """Lengths of clips. Each goes to the longest that it has frames for; 1 alone makes every sample a picture."""
    sides: tuple[int, ...]
    """Short sides in pixels. Each sample is scaled to the largest that is not above its own, or to the smallest."""
    crop: int | None = None
    """Side of a square crop, at random after scaling; None for whole frames, cut to the nearest of five aspects."""
    multiple: int = 16
    """Of which heights and widths of batches are multiples."""
    steps: tuple[int, ...] = (1,)
    """Frames from one taken frame to the next; drawn for each sample from those that its length allows."""
    images: float | None = None
    """Share of batches that are pictures, or where there are none, single frames of clips; 0 for no such batches, None
    for each picture once an epoch."""
    image_batch: int | None = None
    """Pictures of a global batch; None for as many as have the pixels of a batch of clips."""
    unscaled: float = 0.1
    """Share of crops that are taken without scaling; whole frames are always scaled."""
    flip: float = 0.5
    """Share of samples that are mirrored left to right."""
    reverse: float = 0.5
    """Share of clips that run backwards."""
    seed: int = 0

    def __post_init__(self) -> None:
        numbers = {"batch": (self.batch,), "frames": self.frames, "sides": self.sides, "steps": self.steps}
        numbers |= {"multiple": (self.multiple,), "crop": (1 if self.crop is None else self.crop,)}
        numbers |= {"image_batch": (1 if self.image_batch is None else self.image_batch,)}
        for name, values in numbers.items():
            if not values or min(values) < 1:
                raise InputError(f"{name} is {values}: give whole numbers from 1 up")
        for name in ("unscaled", "flip", "reverse"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}: a share lies in 0 ... 1")
        if self.images is not None and not 0 <= self.images < 1:
            raise InputError(f"images is {self.images}: give a share from 0 to below 1; frames=(1,) makes all pictures")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}: give one from 0 up")
        for side in self.sides if self.crop is None else (self.crop,):
            if side % self.multiple:
                raise InputError(f"a side of {side} is no multiple of {self.multiple}; give one that is")
        if self.crop is not None and self.crop > min(self.sides):
            raise InputError(
                f"crop is {self.crop}, larger than the side of {min(self.sides)}; crop less or scale to more"
            )
