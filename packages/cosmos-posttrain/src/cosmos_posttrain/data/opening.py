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
        folder, tars = path.parent, [path]
    elif path.is_dir():
        folder = path
        tars = sorted(
            p for p in path.rglob("*.tar") if p.is_file() and not p.name.startswith(".") and not is_parallel(p)
        )
    elif path.exists():
        raise InputError(f"{path}: is no folder, no .tar and no .npy; name the folder that the clips are in")
    else:
        raise InputError(f"{path}: no such file or folder; check the name")
    if tars:
        return _shards(folder, tars, say)
    if (path / TRAINING).is_file():
        return Pool(path / TRAINING)
    names = clip_names(path)
    if not names:
        raise InputError(f"{path}: holds no shards (.tar), no clips, no pictures and no pool; name a folder that does")
    return Folder(path, names)


def _shards(folder: Path, tars: list[Path], say: Callable[[str], None]) -> Shards:
    shards = Shards(folder, tars, say)
    if not len(shards):
        which = f"none of the {len(tars)} tar files, {tars[0]} the first," if len(tars) > 1 else "not"
        raise InputError(
            f"{folder if len(tars) > 1 else tars[0]}: {which} holds a clip or a picture; make shards of clips"
        )
    return shards
