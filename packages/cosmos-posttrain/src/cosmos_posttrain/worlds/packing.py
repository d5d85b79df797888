"""Clips packed into a tar shard of webdataset's layout, which `cosmos_posttrain.data` reads; same clips, same bytes."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmos_posttrain.worlds.clip_files import SUFFIXES
from cosmos_posttrain.worlds.settings import WorldsConfig
from cosmos_tokenizer import InputError
from cosmos_tokenizer.atomic import whole_file


def pack(shard: Path, folder: Path, keys: Sequence[str]) -> None:
    """Write the clips of a folder into a shard, which is whole or not there."""
    with whole_file(shard) as beside, tarfile.open(beside, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key in keys:
            for suffix in SUFFIXES:
                data = (folder / f"{key}{suffix}").read_bytes()
                info = tarfile.TarInfo(f"{key}{suffix}")  # of no date and no owner
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def is_packed(shard: Path, config: WorldsConfig, clips: Sequence[tuple[str, int]]) -> bool:
    """Tell whether a shard has these clips; not where there is none, or a beginning of them, which may be replaced.

    Raises:
        InputError: it has other clips, or is damaged.
    """
    if not shard.exists():
        return False
    wanted = [f"{key}{suffix}" for clip in clips for key in config.keys(*clip) for suffix in SUFFIXES]
    try:
        with tarfile.open(shard) as tar:
            found = tar.getnames()
            record = _record(tar, found)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise InputError(f"{shard}: is damaged ({error}); remove it, or name another folder") from error
    if not found or found != wanted[: len(found)] or not config.agrees(record, *clips[0]):
        raise InputError(
            f"{shard}: has other clips, or of other seed, size, length, rate or cameras; name another folder"
        )
    return len(found) == len(wanted)


def _record(tar: tarfile.TarFile, names: Sequence[str]) -> Any:  # noqa: ANN401 - any JSON value
    name = next((name for name in names if name.endswith(".json")), None)
    member = None if name is None else tar.extractfile(name)
    return None if member is None else json.loads(member.read())
