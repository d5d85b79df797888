"""How long a video file says it is: ISO base media (MP4, MOV), Matroska (WebM) and RIFF (AVI) declare their own size.

Demuxers read a cut file up to the cut and then report a clean end, so the declared size is what tells a truncated file
from a short one.
"""

import os
from pathlib import Path
from typing import BinaryIO

_EBML = b"\x1a\x45\xdf\xa3"
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_SEGMENT = b"\x18\x53\x80\x67"


def missing_bytes(path: Path | str) -> int:
    """Return how many bytes the file lacks of what its container declares; 0 if whole or if nothing is declared."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] == _EBML:
            end = _matroska_end(file)
        elif head[:4] == b"RIFF":
            end = int.from_bytes(head[4:8], "little") + 8
        elif head[4:8] in _BOXES:
            end = _boxes_end(file, size)
        else:
            end = size
    return max(0, end - size)


def lacks_index(path: Path | str) -> bool:
    """Return whether the file is MP4 or MOV and has no `moov` box, as when recording or copying was not finished."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if file.read(12)[4:8] not in _BOXES:
            return False
        position = 0
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if header[4:8] == b"moov":
                return False
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            if length < 8:
                return True
            position += length
    return True


def _boxes_end(file: BinaryIO, size: int) -> int:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, name = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0 or not name.isalnum():
            return size  # 0 runs to the end of the file; anything else is padding that some cameras append
        if length < 8:
            return size
        position += length
    return position


def _matroska_end(file: BinaryIO) -> int:
    file.seek(4)
    header = _variable_length(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    length = _variable_length(file)
    return 0 if length is None else file.tell() + length


def _variable_length(file: BinaryIO) -> int | None:
    """Read one EBML length; None where it is "unknown" (all ones, as live recorders write) or cut off."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    width = 9 - first[0].bit_length()
    raw = first + file.read(width - 1)
    if len(raw) < width:
        return None
    value = int.from_bytes(raw, "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else value
