"""Settings of deduplication."""

from dataclasses import dataclass
from typing import Literal

from cosmos_curate.errors import InputError

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class DedupConfig:
    """How near two clips must be to be copies, and how they are searched.

    Args:
        eps: clips whose embeddings have a cosine of at least 1 - eps are copies.
        radius: most bits, of 64, by which perceptual hashes of copies differ in any frame; 7 at most.
        clusters: of the embeddings; "auto" takes the square root of their number.
        exact_below: up to so many clips all pairs are compared, without clusters.
        most_rows: a cluster of more rows is split again.
        iterations: of k-means.
        train_rows: rows a cluster that k-means sees, drawn at random.
        sweep: values of eps at which the share of removed clips is reported.
        sample: clips compared with all others to estimate the share of pairs that clusters missed; 0 for none.
        tile: rows and columns of similarities held at once.
        device: "cpu" (faiss and numpy), "cuda" (torch), or "auto" for a GPU where there is one.
        seed: of k-means and of both draws.
    """

    eps: float = 0.06
    radius: int = 2
    clusters: int | Literal["auto"] = "auto"
    exact_below: int = 8192
    most_rows: int = 32768
    iterations: int = 20
    train_rows: int = 64
    sweep: tuple[float, ...] = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2)
    sample: int = 1000
    tile: int = 2048
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.eps < 1:
            raise InputError(f"eps is {self.eps}; it is one minus a cosine, above 0 and below 1")
        if not 0 <= self.radius <= 7:
            raise InputError(f"radius is {self.radius}; it is a number of bits from 0 to 7")
        if self.clusters != "auto" and self.clusters < 1:
            raise InputError(f"clusters is {self.clusters}; at least 1, or auto")
        if any(not 0 < eps < 1 for eps in self.sweep):
            raise InputError(f"sweep is {self.sweep}; each value is above 0 and below 1")
        for name in ("exact_below", "sample"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it cannot be negative")
        for name in ("most_rows", "iterations", "train_rows", "tile"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; at least 1")
        if self.device not in DEVICES:
            raise InputError(f"device is {self.device}; one of {', '.join(DEVICES)}")

    def resolved_device(self) -> str:
        """Return "cuda" or "cpu"."""
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
