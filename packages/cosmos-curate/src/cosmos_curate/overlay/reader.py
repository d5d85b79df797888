"""What finds and reads text in a picture, and the reader that is built in: RapidOCR with the networks of its wheel."""

import importlib.metadata
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_curate.errors import InputError
from cosmos_curate.models.cache import sha256, without_telemetry


@runtime_checkable
class TextReader(Protocol):
    """Finds text and reads it."""

    def find(self, picture: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "N 4 2"]:
        """Return the corners of each line of text, clockwise from its top left, as x and y in pixels."""
        ...

    def read(self, picture: UInt8[np.ndarray, "H W 3"], quad: Float32[np.ndarray, "4 2"]) -> tuple[str, float]:
        """Return what one of the boxes says, and how sure that is, from 0 to 1."""
        ...


@runtime_checkable
class TextReaderBackend(Protocol):
    """Opens a reader; it must survive pickling. `settings` and `weights` are all that its readings depend on."""

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def weights(self) -> Mapping[str, str]: ...

    def open(self) -> TextReader: ...


def network_paths() -> dict[str, Path]:
    """Return the files of RapidOCR's wheel that detect and recognise text, so that nothing is fetched at run time.

    Raises:
        InputError: the package is missing or ships other files.
    """
    try:
        shipped = [file for file in importlib.metadata.files("rapidocr") or () if file.name.endswith(".onnx")]
    except importlib.metadata.PackageNotFoundError:
        raise InputError("text overlay needs rapidocr: pip install rapidocr") from None
    found: dict[str, Path] = {}
    for part in ("det", "rec"):
        paths = [Path(str(file.locate())) for file in shipped if f"_{part}_" in file.name]
        if len(paths) != 1:
            raise InputError(
                f"rapidocr {importlib.metadata.version('rapidocr')} ships {len(paths)} {part} networks, not 1"
            )
        found[part] = paths[0]
    return found


@dataclass(frozen=True, kw_only=True)
class RapidText:
    """The built-in backend.

    Args:
        side: pixels of the longer side at which text is sought.
    """

    side: int = 640

    def __post_init__(self) -> None:
        if self.side < 64:
            raise InputError(f"overlay side {self.side} is too small to find text: give 64 or more")

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its version decides how boxes are grown from the network's map."""
        return {"rapidocr": importlib.metadata.version("rapidocr"), "side": self.side}

    @property
    def weights(self) -> Mapping[str, str]:
        """The sha256 of both networks."""
        return {f"rapidocr {part}": sha256(path) for part, path in network_paths().items()}

    def open(self) -> "RapidReader":
        """Load the networks, on one thread each: bits must not depend on the machine's load."""
        without_telemetry()
        from rapidocr import RapidOCR

        paths = network_paths()
        engine = RapidOCR(
            params={
                "Global.log_level": "critical",
                # Nothing is drawn; but without a file here old versions fetch a font.
                "Global.font_path": str(paths["det"]),
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Det.model_path": str(paths["det"]),
                "Det.limit_side_len": self.side,
                "Det.limit_type": "max",
                "Rec.model_path": str(paths["rec"]),
            }
        )
        return RapidReader(engine, self.side)


class RapidReader:
    """A TextReader upon one RapidOCR engine; of one thread, as the engine is."""

    def __init__(self, engine: Callable[..., Any], side: int) -> None:
        self._engine, self._side = engine, side

    def find(self, picture: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "N 4 2"]:
        """Return the corners of each line of text, in the picture's pixels, at its size or reduced to `side`."""
        import cv2

        height, width = picture.shape[:2]
        scale = min(1.0, self._side / max(height, width))
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture
        found = self._engine(np.ascontiguousarray(small[..., ::-1]), use_det=True, use_cls=False, use_rec=False)
        if getattr(found, "boxes", None) is None:
            return np.zeros((0, 4, 2), np.float32)
        quads = np.asarray(found.boxes, np.float32).reshape(-1, 4, 2)
        return (quads * np.array([width / size[0], height / size[1]])).astype(np.float32)

    def read(self, picture: UInt8[np.ndarray, "H W 3"], quad: Float32[np.ndarray, "4 2"]) -> tuple[str, float]:
        """Return the line in a box, straightened first; a box taller than 1.5 times its width is read from below."""
        import cv2

        width = max(math.dist(quad[0], quad[1]), math.dist(quad[3], quad[2]))
        height = max(math.dist(quad[0], quad[3]), math.dist(quad[1], quad[2]))
        columns, rows = max(round(width), 4), max(round(height), 4)
        corners = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32)
        turn = cv2.getPerspectiveTransform(quad, corners)
        line = cv2.warpPerspective(
            picture, turn, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        if rows >= 1.5 * columns:
            line = np.rot90(line)
        read = self._engine(np.ascontiguousarray(line[..., ::-1]), use_det=False, use_cls=False, use_rec=True)
        texts, scores = getattr(read, "txts", None), getattr(read, "scores", None)
        if not texts or not scores:
            return "", 0.0
        return str(texts[0]).strip(), float(scores[0])
