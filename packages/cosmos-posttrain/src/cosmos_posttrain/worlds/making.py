"""Many clips of scenes, in a folder or packed into tar shards; what is there already is not made again."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

from cosmos_posttrain.worlds.clip_files import SUFFIXES, write_clip
from cosmos_posttrain.worlds.kinds import draw
from cosmos_posttrain.worlds.packing import is_packed, pack
from cosmos_posttrain.worlds.settings import WorldsConfig
from cosmos_posttrain.worlds.studio import Studio
from cosmos_tokenizer import InputError
from cosmos_tokenizer.progress import Progress

SHARD = 256
"""Clips of a shard at most, what several cameras see of one counted once."""


def make(config: WorldsConfig, out: Path | str, *, shards: bool = False) -> int:
    """Render the clips into the folder `out`, or into its shards 000000.tar and so on; return how many were not there.

    A run that was stopped goes on where it was: clips of an unfinished shard wait in a hidden folder beside it. Shows
    its progress on standard output.

    Raises:
        InputError: nothing can be rendered here, or `out` has other clips of these names.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder")
    clips = config.clips()
    with ExitStack() as stack:
        crew = _Crew(config, stack, stack.enter_context(Progress(len(clips))))
        if not shards:
            crew.film(clips, folder)
        for place in range(0, len(clips) if shards else 0, SHARD):
            piece = clips[place : place + SHARD]
            shard, workshop = folder / f"{place // SHARD:06}.tar", folder / f".{place // SHARD:06}"
            if is_packed(shard, config, piece):
                crew.progress.advance(float(len(piece)))
            else:
                crew.film(piece, workshop)
                pack(shard, workshop, [key for clip in piece for key in config.keys(*clip)])
                shutil.rmtree(workshop)
    return crew.made


class _Crew:
    """Films clips that are not there yet; its studio is opened for the first of them, and closed by `stack`."""

    def __init__(self, config: WorldsConfig, stack: ExitStack, progress: Progress) -> None:
        self.progress, self.made = progress, 0
        self._config, self._stack = config, stack
        self._studio: Studio | None = None

    def film(self, clips: list[tuple[str, int]], folder: Path) -> None:
        """Make sure that a folder has all these clips."""
        for name, number in clips:
            keys = self._config.keys(name, number)
            self.progress.start(keys[0])
            if not all(self._is_there(folder, key, name, number) for key in keys):
                self._film(folder, name, number)
                self.made += 1
            self.progress.advance(1.0)

    def _is_there(self, folder: Path, key: str, name: str, number: int) -> bool:
        if not (folder / f"{key}{SUFFIXES[-1]}").exists():
            return False
        path = folder / f"{key}.json"
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError):
            record = None
        if not self._config.agrees(record, name, number):
            raise InputError(f"{path}: is of other seed, size, length, rate or cameras; name another folder")
        return True

    def _film(self, folder: Path, name: str, number: int) -> None:
        config = self._config
        self._studio = self._studio or self._stack.enter_context(Studio(size=config.size))
        take = draw(name, seed=config.seed, number=number, cameras=config.cameras)
        film = self._studio.film(take, frames=config.frames, fps=config.fps)
        about = config.about(name, number)
        for camera, key in enumerate(config.keys(name, number)):
            write_clip(folder, key, take, film, camera=camera, fps=config.fps, about=about)
