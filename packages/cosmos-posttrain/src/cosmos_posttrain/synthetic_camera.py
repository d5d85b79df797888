"""Photographs seen by a moving synthetic camera: pan, zoom, roll, shake, moving foreground, shutter blur and noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from numpy.random import Generator
from PIL import Image
from torch import Tensor

FASTEST = 12.0
"""Pixels per frame; the tail of the speeds is cut here."""

Array = np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """One view per time step; lengths are pixels of the output frame, angles radians."""

    centre: Float[Array, "T 2"]
    step: Float[Array, " T"]
    """Distance between neighbouring output pixels; at most 1, so that a patch made for step 1 is never aliased."""
    roll: Float[Array, " T"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Occluder:
    """A star-shaped blob, or a straight bar, fixed in its layer. Lengths are output pixels."""

    centre: Float[Array, " 2"]
    radius: float
    waves: Float[Array, "K 2"]
    """Amplitude (share of the radius) and phase of each boundary wave; empty for a disc."""
    bar: float | None
    """Direction of the bar in radians, None for a blob."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A piece of a photograph, the track on which it is seen, and what of it is opaque: all, or an occluder."""

    track: Track
    patch: Float[Tensor, "C h w"]
    origin: Float[Array, " 2"]
    """The plane's point at the patch's first pixel."""
    occluder: Occluder | None


def draw_track(rng: Generator, *, frames: int) -> Track:
    """A camera path with a heavy-tailed speed: an eighth stand still, a tenth pan faster than 5 px per frame."""
    if rng.random() < 0.125:
        return Track(centre=np.zeros((frames, 2)), step=np.ones(frames), roll=np.full(frames, rng.normal(0, 0.05)))
    speed = min(FASTEST, float(rng.lognormal(math.log(1.4), 1.05)))
    turn = np.cumsum(np.full(frames, rng.normal(0, 0.02))) + rng.uniform(0, 2 * math.pi)
    pace = speed * np.clip(1 + rng.normal(0, 0.03) * np.arange(frames), 0.0, 1.5)
    pan = np.stack([pace * np.cos(turn), 0.6 * pace * np.sin(turn)], axis=1)
    shake = rng.normal(0, 1, (frames, 2)) * (min(2.0, float(rng.lognormal(-1.5, 1.0))) if rng.random() < 0.5 else 0.0)
    velocity = pan + shake
    velocity *= np.minimum(1.0, FASTEST / np.maximum(np.linalg.norm(velocity, axis=1, keepdims=True), 1e-9))
    zoom = np.cumsum(np.full(frames, np.clip(0.006 * rng.standard_t(3), -0.03, 0.03) * (rng.random() < 0.6)))
    spin = np.cumsum(np.full(frames, np.clip(0.004 * rng.standard_t(3), -0.03, 0.03) * (rng.random() < 0.5)))
    return Track(centre=np.cumsum(velocity, axis=0), step=np.exp(zoom - zoom.max()), roll=spin + rng.normal(0, 0.05))


def between(track: Track, share: float) -> Track:
    """The track a share of one frame later; one time step shorter."""

    def mix(x: Array) -> Array:
        return (1 - share) * x[:-1] + share * x[1:]

    return Track(centre=mix(track.centre), step=mix(track.step), roll=mix(track.roll))


def view_points(track: Track, size: int) -> Float[Array, "T H W 2"]:
    """Where each output pixel (x, y) looks in the layer's plane."""
    axis = np.arange(size) - (size - 1) / 2
    x_HW, y_HW = np.meshgrid(axis, axis)
    cos, sin = (track.step * np.cos(track.roll))[:, None, None], (track.step * np.sin(track.roll))[:, None, None]
    turned = np.stack([cos * x_HW - sin * y_HW, sin * x_HW + cos * y_HW], axis=-1)
    return turned + track.centre[:, None, None, :]


def draw_scale(photograph: Image.Image, rng: Generator) -> float:
    """How many times to shrink the photograph: 1 to 7, rather more than less, leaving its short side 144 pixels."""
    largest = max(1.0, min(7.0, min(photograph.size) / 144))
    return math.exp(math.log(largest) * rng.random() ** 0.7)


def cut_patch(
    photograph: Image.Image, rng: Generator, low: Array, high: Array, *, scale: float
) -> tuple[Float[Tensor, "C h w"], Array]:
    """A piece of the shrunk photograph covering the plane from `low` to `high`, or all there is.

    It is the more contrasty of two draws. Shrinking uses an anti-aliasing filter once, here. Returns the piece in
    [0, 1] and the plane's point at its first pixel.
    """
    need = high - low
    whole = np.array(photograph.size, dtype=float)
    span = np.minimum(need * scale, whole)
    corner = max(
        (rng.uniform(0, 1, 2) * (whole - span) for _ in range(2)), key=lambda at: contrast(photograph, at, span)
    )
    pixels = np.maximum(2, np.round(span / scale)).astype(int)
    box = (*corner, *(corner + span))
    piece = photograph.resize((int(pixels[0]), int(pixels[1])), Image.Resampling.LANCZOS, box=box)
    tensor = rearrange(torch.from_numpy(np.asarray(piece, dtype=np.float32) / 255), "h w c -> c h w")
    return tensor, low + (need - pixels) / 2


def contrast(photograph: Image.Image, corner: Array, span: Array) -> float:
    """Deviation of a patch of the photograph at 24x24."""
    box = (*corner, *(corner + span))
    small = photograph.resize((24, 24), Image.Resampling.BOX, box=box, reducing_gap=1.0)
    return float(np.asarray(small, dtype=np.float32).std())


def sample(patch: Float[Tensor, "C h w"], origin: Array, points: Float[Array, "T H W 2"]) -> Float[Tensor, "T C H W"]:
    """Bicubic samples of the patch at points of the plane, mirrored at its borders."""
    frames, height, width, _ = points.shape
    extent = np.array([patch.shape[2], patch.shape[1]])
    grid = torch.from_numpy(((points - origin) * 2 + 1) / extent - 1).float().reshape(1, frames * height, width, 2)
    seen = torch.nn.functional.grid_sample(
        patch[None], grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    return rearrange(seen[0], "c (t h) w -> t c h w", t=frames)


def coverage(occluder: Occluder, points: Float[Array, "T H W 2"]) -> Float[Tensor, "T 1 H W"]:
    """Opacity in [0, 1], falling over about one pixel at the boundary."""
    offset = points - occluder.centre
    if occluder.bar is None:
        angle = np.arctan2(offset[..., 1], offset[..., 0])
        edge = np.ones_like(angle)
        for k, (amplitude, phase) in enumerate(occluder.waves, start=1):
            edge += amplitude * np.cos(k * angle + phase)
        inside = occluder.radius * edge - np.hypot(offset[..., 0], offset[..., 1])
    else:
        inside = occluder.radius - np.abs(offset @ np.array([-math.sin(occluder.bar), math.cos(occluder.bar)]))
    return torch.from_numpy(np.clip(inside + 0.5, 0, 1)).float()[:, None]


def draw_occluder(rng: Generator, track: Track, size: int) -> Occluder:
    """A random foreground shape that the camera's track passes in front of."""
    middle = track.centre[len(track.centre) // 2]
    waves = np.stack([rng.uniform(0, 0.35, 5) / np.arange(1, 6), rng.uniform(0, 2 * math.pi, 5)], axis=1)
    bar = rng.uniform(0, math.pi) if rng.random() < 0.25 else None
    return Occluder(
        centre=middle + rng.uniform(-0.45, 0.45, 2) * size,
        radius=size * float(rng.uniform(0.03, 0.12) if bar is not None else rng.uniform(0.1, 0.4)),
        waves=waves,
        bar=bar,
    )


def grade(clip: Float[Tensor, "T C H W"], rng: Generator) -> Float[Tensor, "T C H W"]:
    """One random exposure, contrast and saturation for the clip, mostly towards the muted colours of plain footage."""
    grey = clip.mean(dim=1, keepdim=True)
    toned = grey + (clip - grey) * float(rng.uniform(0.25, 1.05))
    toned = toned.clamp(1e-4, 1).pow(float(rng.uniform(0.75, 1.35)))
    gain, cast = float(rng.uniform(0.75, 1.3)), torch.from_numpy(rng.normal(0, 0.02, (1, 3, 1, 1))).float()
    return (toned - 0.5) * gain + 0.5 + cast + float(rng.normal(0, 0.04))


def draw_layers(photographs: Sequence[Image.Image], rng: Generator, camera: Track, size: int) -> list[Layer]:
    """Background first; nearer layers show more of the camera's motion, and have some of their own."""
    tracks: list[Track] = [camera]
    occluders: list[Occluder | None] = [None]
    for _ in photographs[1:]:
        own = draw_track(rng, frames=len(camera.step))
        track = replace(own, centre=camera.centre * float(rng.uniform(1.0, 2.0)) + own.centre)
        tracks.append(track)
        occluders.append(draw_occluder(rng, track, size))
    layers = []
    for track, occluder, photograph in zip(tracks, occluders, photographs, strict=True):
        corners = view_points(track, size)[:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(-1, 2)
        low, high = corners.min(axis=0) - 2, corners.max(axis=0) + 2
        patch, origin = cut_patch(photograph, rng, low, high, scale=draw_scale(photograph, rng))
        layers.append(Layer(track=track, patch=patch, origin=origin, occluder=occluder))
    return layers


def expose(layers: Sequence[Layer], share: float, size: int) -> Float[Tensor, "T C H W"]:
    """The layers over one another, that share of a frame after each frame's start."""
    image: Tensor | None = None
    for layer in layers:
        points = view_points(between(layer.track, share), size)
        seen = sample(layer.patch, layer.origin, points)
        image = seen if image is None or layer.occluder is None else image.lerp(seen, coverage(layer.occluder, points))
    assert image is not None
    return image


def film_photographs(
    photographs: Sequence[Image.Image], rng: Generator, *, frames: int, size: int
) -> UInt8[Array, "T H W 3"]:
    """One clip: the first photograph is the background, the others move before it as occluders."""
    camera = draw_track(rng, frames=frames + 1)
    shutter = float(rng.uniform(0.2, 0.7)) if rng.random() < 0.4 else 0.0
    blur = float(np.abs(np.diff(camera.centre, axis=0)).max()) * shutter
    instants = 1 if blur < 0.5 else 4 if blur < 4 else 8
    layers = draw_layers(photographs, rng, camera, size)
    clip = sum((expose(layers, shutter * i / instants, size) for i in range(instants)), torch.zeros(())) / instants
    if rng.random() < 0.7:
        clip = grade(clip, rng)
    if rng.random() < 0.35:
        grain = torch.from_numpy(rng.standard_normal(clip.shape, dtype=np.float32))
        clip = clip + grain * float(rng.uniform(1, 6) / 255)
    return to_uint8(clip)


def to_uint8(clip: Float[Tensor, "T C H W"]) -> UInt8[Array, "T H W 3"]:
    """Clip in [0, 1] as 8-bit frames."""
    return rearrange((clip.clamp(0, 1) * 255).round().to(torch.uint8), "t c h w -> t h w c").numpy()
