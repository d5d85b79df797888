"""Token files: one clip's latents or indices in safetensors, with what it takes to decode them and to refuse to.

The metadata holds the clip's length, size and rate, the compression, and the fingerprint of the model that made the
tokens. A checksum of each tensor's bytes makes every damaged file an error instead of a strange picture.

Version 1 holds one tensor, `latents` (C t h w, floating point) or `indices` (t h w, int32). Version 2, for long clips,
holds the same cut along t into `latents.00000`, `latents.00001` and so on, so that neither writing nor reading holds
more than one of them; `sha256` then lists their checksums in order, separated by spaces.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import torch
from jaxtyping import Float, Int32
from safetensors import SafetensorError
from torch import Tensor

from cosmos_tokenizer.atomic import whole_file
from cosmos_tokenizer.config import Kind
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.geometry import Geometry
from cosmos_tokenizer.jsontext import readable
from cosmos_tokenizer.tensor_files import opened

FORMAT = "cosmos-tokenizer tokens"

PART_BYTES = 16 << 20
"""A tensor ends before it would hold more than this; a clip that needs no more is one tensor."""

NAMES: Mapping[Kind, str] = {"continuous": "latents", "discrete": "indices"}

_IN_ONE, _IN_PARTS = "1", "2"
_CUTS = ("window", "tile")
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I32": torch.int32}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}

Values = Float[Tensor, "C t h w"] | Int32[Tensor, "t h w"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenInfo:
    """What stands beside the tokens of one clip: what decoding them takes.

    `rate` is None for a still picture; `size` is (height, width) of the clip; `fingerprint` is the making model's, by
    half; `model` and `source` are names for people. `window` is how many latent frames temporal attention looked back
    on in the encoder where the clip has more, `tile` the side in pixels of the tiles it was cut in; None for the whole.
    """

    frames: int
    size: tuple[int, int]
    rate: Fraction | None
    geometry: Geometry
    fingerprint: Mapping[str, str | None]
    model: str
    source: str
    window: int | None = None
    tile: int | None = None


class TokenWriter:
    """Takes the tokens of one clip as they come, in pieces of one size or smaller, and holds `PART_BYTES` at most."""

    def __init__(self, data: IO[bytes]) -> None:
        self._data = data
        # One block for all pieces of a part: small ones that wait would keep the allocator from returning large ones.
        self._part: Tensor | None = None
        self._used = 0
        self._parts: list[tuple[torch.dtype, tuple[int, ...]]] = []
        self._checksums: list[str] = []
        self._info: TokenInfo | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held for the part that is not full yet."""
        return 0 if self._part is None else self._part.nbytes

    def push(self, values: Values) -> None:
        """Add the next latent frames."""
        values = values.detach().cpu()
        count = values.shape[-3]
        if self._part is not None and self._used + count > self._part.shape[-3]:
            self._end_part()
        if self._part is None:
            room = PART_BYTES // (values.nbytes // count)
            if count >= room:
                self._write(values)
                return
            self._part = values.new_empty((*values.shape[:-3], room, *values.shape[-2:]))
        self._part.narrow(-3, self._used, count).copy_(values)
        self._used += count

    def finish(self, info: TokenInfo) -> None:
        """Say of which clip these were all the tokens."""
        self._end_part()
        self._info = info

    def header(self) -> bytes:
        """What stands in front of the data; after `finish`."""
        info = self._info
        if info is None:
            raise RuntimeError("the tokens were not finished")
        (dtype, _), *more = self._parts
        kind: Kind = "continuous" if dtype.is_floating_point else "discrete"
        metadata = {
            "format": FORMAT,
            "version": _IN_PARTS if more else _IN_ONE,
            "kind": kind,
            "frames": str(info.frames),
            "height": str(info.size[0]),
            "width": str(info.size[1]),
            "rate": "still" if info.rate is None else str(info.rate),
            "temporal": str(info.geometry.temporal),
            "spatial": str(info.geometry.spatial),
            "fingerprint": json.dumps(dict(info.fingerprint), sort_keys=True),
            "model": readable(info.model),
            "source": readable(info.source),
            "sha256": " ".join(self._checksums),
            **{name: str(value) for name in _CUTS if (value := getattr(info, name)) is not None},
        }
        fields: dict[str, object] = {"__metadata__": metadata}
        start = 0
        for name, (dtype, shape) in zip(_names(kind, len(self._parts)), self._parts, strict=True):
            end = start + torch.Size(shape).numel() * dtype.itemsize
            fields[name] = {"dtype": _CODES[dtype], "shape": shape, "data_offsets": [start, end]}
            start = end
        text = json.dumps(fields, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    def _end_part(self) -> None:
        if self._part is not None and self._used:
            self._write(self._part.narrow(-3, 0, self._used))
        self._part, self._used = None, 0

    def _write(self, values: Tensor) -> None:
        values = values.contiguous()
        self._data.write(_bytes(values))
        self._parts.append((values.dtype, tuple(values.shape)))
        self._checksums.append(_checksum(values))


@contextmanager
def token_writer(path: Path | str) -> Iterator[TokenWriter]:
    """Open a token file for tokens that come in pieces; whole or not at all. The block must `finish` it.

    Raises:
        OSError: the file cannot be written; nothing is left of it then, nor where the block fails.
    """
    with whole_file(path) as beside, TemporaryFile(dir=beside.parent) as data:
        writer = TokenWriter(data)
        yield writer
        data.seek(0)
        with beside.open("wb") as out:
            out.write(writer.header())
            shutil.copyfileobj(data, out, 1 << 20)


class TokenReader:
    """A token file, whose header was checked, and whose tokens are read and checked part by part."""

    def __init__(self, path: Path | str) -> None:
        """Read the header.

        Raises:
            InputError: the file is missing, no token file, of a later format, cut short, or contradicts itself.
        """
        self.path = path = Path(path)
        if not path.exists():
            raise InputError(f"{path}: no such file; check the name")
        if path.is_dir():
            raise InputError(f"{path}: is a folder; name a token file in it")
        with _reading(path), opened(path) as file:
            metadata = file.metadata() or {}
            tensors = {}
            for name in sorted(file.keys()):
                tensor = file.get_slice(name)
                tensors[name] = (tensor.get_dtype(), tuple(tensor.get_shape()))
        if metadata.get("format") != FORMAT:
            raise InputError(f"{path}: is not a token file; make one with `cosmos-tokenizer encode`")
        if metadata.get("version") not in (_IN_ONE, _IN_PARTS):
            raise InputError(
                f"{path}: has token format {metadata.get('version')!r}, and {_IN_ONE!r} and {_IN_PARTS!r} are read; "
                "update the package"
            )
        if metadata["version"] == _IN_ONE and len(tensors) != 1:
            raise InputError(
                f"{path}: holds {len(tensors)} tensors, and a token file of its kind holds one; encode the clip again"
            )
        with _checking(path):
            self.info = _info(metadata)
            self.kind: Kind = "discrete" if metadata["kind"] == "discrete" else "continuous"
            self.dtype = _check_tensors(tensors, metadata, self.kind)
            self.shape = _joined([shape for _, shape in tensors.values()])
            _check_shape(self.shape, self.info, self.kind)
            checksums = metadata["sha256"].split()
            if len(checksums) != len(tensors):
                raise ValueError(f"it has {len(tensors)} tensors and {len(checksums)} checksums")
            self._parts = dict(zip(tensors, checksums, strict=True))

    def parts(self) -> Iterator[Values]:
        """Read the tokens, some latent frames at a time.

        Raises:
            InputError: they do not match their checksum, or are latents that are not finite.
        """
        for name, checksum in self._parts.items():
            # Opened anew for each: pages of a file that stays mapped would count as this process's memory.
            with _reading(self.path), opened(self.path) as file:
                values = file.get_tensor(name)
            with _checking(self.path):
                if _checksum(values) != checksum:
                    raise ValueError("its values do not match their checksum")
                if self.kind == "continuous" and not bool(torch.isfinite(values).all()):
                    raise ValueError("its latents are not finite")
            yield values


def is_token_file(path: Path | str) -> bool:
    """Tell whether `path` is a token file, damaged or not, by its metadata."""
    try:
        with opened(path) as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError, ValueError):
        return False


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise InputError(f"{path}: may not be read; check its permissions") from error
    except (OSError, SafetensorError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: is not a token file, or is truncated or damaged; encode the clip again") from error


@contextmanager
def _checking(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: is damaged ({what}); encode the clip again") from error


def _info(metadata: Mapping[str, str]) -> TokenInfo:
    fingerprint = json.loads(metadata["fingerprint"])
    if not isinstance(fingerprint, dict) or not all(isinstance(v, str | None) for v in fingerprint.values()):
        raise ValueError("its fingerprint is unreadable")
    rate = None if metadata["rate"] == "still" else Fraction(metadata["rate"])
    if rate is not None and rate <= 0:
        raise ValueError(f"its rate is {rate}")
    return TokenInfo(
        frames=int(metadata["frames"]),
        size=(int(metadata["height"]), int(metadata["width"])),
        rate=rate,
        geometry=Geometry(temporal=_positive(metadata, "temporal"), spatial=_positive(metadata, "spatial")),
        fingerprint=fingerprint,
        model=metadata["model"],
        source=metadata["source"],
        **{name: _positive(metadata, name) for name in _CUTS if name in metadata},
    )


def _check_tensors(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str], kind: Kind
) -> torch.dtype:
    codes = {code for code, _ in tensors.values()}
    if len(codes) != 1 or not codes <= _DTYPES.keys():
        raise ValueError(f"its values are {' and '.join(sorted(codes))}")
    dtype = _DTYPES[codes.pop()]
    names = _names(kind, 1) if metadata["version"] == _IN_ONE else _parted_names(kind, len(tensors))
    if metadata["kind"] != kind or list(tensors) != names or dtype.is_floating_point != (kind == "continuous"):
        raise ValueError(f"it says {metadata['kind']} and holds {next(iter(tensors))} of {dtype}")
    return dtype


def _check_shape(shape: tuple[int, ...], info: TokenInfo, kind: Kind) -> None:
    grid = (info.geometry.latent_frames(info.frames), *info.geometry.latent_size(*info.size))
    if shape[-3:] != grid or len(shape) != (4 if kind == "continuous" else 3):
        clip = f"{info.frames} frames of {info.size[0]}x{info.size[1]}"
        raise ValueError(f"values of shape {shape} do not belong to {clip}")


def _joined(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Shape of tensors joined along t, the last axis but two."""
    around = {(shape[:-3], shape[-2:]) for shape in shapes}
    if len(around) != 1 or len(shapes[0]) < 3:
        raise ValueError(f"its tensors have shapes {' and '.join(map(str, shapes))}")
    return (*shapes[0][:-3], sum(shape[-3] for shape in shapes), *shapes[0][-2:])


def _names(kind: Kind, count: int) -> list[str]:
    return [NAMES[kind]] if count == 1 else _parted_names(kind, count)


def _parted_names(kind: Kind, count: int) -> list[str]:
    return [f"{NAMES[kind]}.{index:05}" for index in range(count)]


def _positive(metadata: Mapping[str, str], name: str) -> int:
    value = int(metadata[name])
    if value < 1:
        raise ValueError(f"its {name} is {value}")
    return value


def _bytes(values: Tensor) -> memoryview:
    return values.contiguous().flatten().view(torch.uint8).numpy().data


def _checksum(values: Tensor) -> str:
    return hashlib.sha256(_bytes(values)).hexdigest()
