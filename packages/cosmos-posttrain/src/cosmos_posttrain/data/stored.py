"""Where the bytes of a clip lie: a whole file, or a piece of one, as a member of a tar file is."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_tokenizer import InputError

_BUFFER = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """Bytes of `path` from `offset` on, `size` of them; or all of the file, where these are None."""

    path: Path
    name: str
    """What messages and the suffix are taken from."""
    offset: int | None = None
    size: int | None = None

    def open(self) -> io.BufferedReader:
        """Open them as a file of their own.

        Raises:
            InputError: the file is not there or may not be read.
        """
        try:
            if self.offset is None or self.size is None:
                return self.path.open("rb")
            return io.BufferedReader(_Piece(self.path, self.offset, self.size), _BUFFER)
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror}); check {self.path}") from error

    def read(self) -> bytes:
        """Read them all.

        Raises:
            InputError: as `open`; or the file ends before they do.
        """
        with self.open() as file:
            data = file.read()
        if self.size is not None and len(data) < self.size:
            raise InputError(f"{self.name}: is cut short; copy {self.path} again")
        return data


class _Piece(io.RawIOBase):
    """A stretch of a file that looks like a whole one."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_RDONLY)
        self._offset, self._size, self._position = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401
        view = memoryview(buffer).cast("B")
        room = max(0, min(len(view), self._size - self._position))
        data = os.pread(self._descriptor, room, self._offset + self._position)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
