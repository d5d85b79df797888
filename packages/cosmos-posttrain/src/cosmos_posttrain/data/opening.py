"""What a path holds, told by its contents: tar shards, a pool of clips, or a folder of clips and pictures."""

from collections.abc import Callable
from pathlib import Path

from cosmos_posttrain.data.folders import Folder, clip_names
from cosmos_posttrain.data.pool import TRAINING, Pool
from cosmos_posttrain.data.shards import Shards, is_parallel
from cosmos_posttrain.data.source import Source
from cosmos_tokenizer import InputError


def open_source(path: Path | str, *, say: Callable[[str], None] = print) -> Source:
    """Open a tar file, a pool's .npy, or a folder, in which shards go before a pool and a pool before clips.

    Args:
        path: the folder or file.
        say: takes a line on each thing that is damaged or left aside.

    Raises:
        InputError: there is no such path, or nothing in it that can be used.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() == ".npy":
        return Pool(path)
    if path.is_file() and path.suffix.lower() == ".tar":
        shards = Shards(path.parent, [path], say)
        if not len(shards):
            raise InputError(f"{path}: holds no clip and no picture; name a shard that does")
        return shards
    if not path.is_dir():
        what = "is no folder, no .tar and no .npy" if path.exists() else "no such file or folder"
        raise InputError(f"{path}: {what}; name the folder that the clips are in")
    shards = Shards(path, _tars(path), say)
    if len(shards):
        return shards
    if (path / TRAINING).is_file():
        return Pool(path / TRAINING)
    names = clip_names(path)
    if not names:
        raise InputError(
            f"{path}: holds no shards of clips, no clips, no pictures and no pool; name a folder that does"
        )
    return Folder(path, names)


def _tars(folder: Path) -> list[Path]:
    found = (tar for tar in folder.rglob("*.tar") if tar.is_file() and not tar.name.startswith("."))
    return sorted(tar for tar in found if not is_parallel(folder, tar))
