"""Embeddings of many captions, a file each: what is there already stays, and what breaks off can be run again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cosmos_diffusion.embedding_files import Embedding, said_of, write_embedding
from cosmos_diffusion.text_encoders.padding import trimmed
from cosmos_diffusion.text_encoders.protocol import TextEncoder
from cosmos_tokenizer import InputError
from cosmos_tokenizer.jsontext import readable
from cosmos_tokenizer.progress import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedded:
    """How many files were written, and how many stood there from before."""

    written: int
    kept: int


def embed_captions(
    captions: Mapping[str, str], folder: str | Path, encoder: TextEncoder, *, name: str, batch: int = 8
) -> Embedded:
    """Write `folder/NAME.safetensors` for each caption, without its padding, each whole or not at all.

    A file that says that it is of this caption by this encoder is kept.

    Args:
        captions: caption of each name.
        folder: is made if missing.
        encoder: makes the embeddings.
        name: of the encoder, which is written beside them.
        batch: captions that are encoded together.

    Raises:
        InputError: `batch` is below 1, or `folder` is a file.
        OSError: a file cannot be written.
    """
    folder = Path(folder)
    if batch < 1:
        raise InputError(f"batch is {batch}: give a whole number from 1 up")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, and embeddings need a folder; name another")
    files = {clip: folder / f"{clip}.safetensors" for clip in captions}
    told = readable(name)
    todo = [
        clip
        for clip, caption in captions.items()
        if not files[clip].is_file() or said_of(files[clip]) != (readable(caption), told)
    ]
    # Captions of like lengths go together: a batch is as long as its longest. The longest first, lest memory end late.
    todo.sort(key=lambda clip: len(captions[clip]), reverse=True)
    with Progress(max(1, len(todo))) as progress:
        for start in range(0, len(todo), batch):
            clips = todo[start : start + batch]
            progress.start(clips[0])
            for clip, text_SK in zip(clips, encoder.encode([captions[clip] for clip in clips]), strict=True):
                write_embedding(files[clip], Embedding(text=trimmed(text_SK), prompt=captions[clip], encoder=name))
            progress.advance(float(len(clips)))
    return Embedded(written=len(todo), kept=len(captions) - len(todo))
