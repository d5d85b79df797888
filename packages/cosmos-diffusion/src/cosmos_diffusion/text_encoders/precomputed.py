"""Embeddings that were made before, in place of an encoder: no language model is needed where the prompts are known."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.captions import caption_of
from cosmos_diffusion.embedding_files import SUFFIXES, read_embedding, said_of
from cosmos_diffusion.text_encoders.padding import padded
from cosmos_tokenizer import InputError
from cosmos_tokenizer.jsontext import readable

_CAPTIONS = "metas"
"""Folder beside that of pickles, where NVIDIA's data has their captions."""


class PrecomputedEncoder:
    """A ``TextEncoder`` of known prompts.

    Args:
        source: a file of ours, or a folder of such files or of pickles (``t5_xxl``), whose prompts are the files of
            the same name in ``metas`` beside it.
        length: vectors of a prompt with its padding.

    Raises:
        InputError: there is no such file or folder, or it holds no embedding whose prompt is known.
    """

    def __init__(self, source: str | Path, *, length: int = 512) -> None:
        path = Path(source)
        if not path.exists():
            raise InputError(f"{path}: no such file or folder of embeddings; make it with cosmos-diffusion embed")
        files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]
        self._files = {prompt: file for file in files if (prompt := _prompt_of(file)) is not None}
        if not self._files:
            raise InputError(f"{path}: holds no embedding whose prompt is known; make it with cosmos-diffusion embed")
        self._source, self._length = path, length
        self._width = read_embedding(next(iter(self._files.values()))).text.shape[1]

    @property
    def width(self) -> int:
        """Channels of a vector."""
        return self._width

    @property
    def length(self) -> int:
        """Vectors of a prompt with its padding."""
        return self._length

    @property
    def prompts(self) -> tuple[str, ...]:
        """What is known."""
        return tuple(self._files)

    def encode(self, prompts: Sequence[str], /) -> Float[Tensor, "B S K"]:
        """Embeddings of known prompts, as they are stored, on the CPU.

        Raises:
            InputError: a prompt is not known, or files disagree on the width.
        """
        texts = []
        for prompt in prompts:
            file = self._files.get(readable(prompt.strip()))
            if file is None:
                raise InputError(
                    f"{self._source}: holds no embedding of {prompt[:60]!r}; add it with cosmos-diffusion embed"
                )
            text = read_embedding(file).text
            if text.shape[1] != self._width:
                raise InputError(f"{file}: its embedding is {text.shape[1]} wide and those beside it {self._width}")
            texts.append(text)
        if not texts:
            return padded([read_embedding(next(iter(self._files.values()))).text], self._length)[:0]
        return padded(texts, self._length)


def _prompt_of(file: Path) -> str | None:
    if file.suffix == ".safetensors":
        return said_of(file)[0]
    captions = file.parent.parent / _CAPTIONS / f"{file.stem}.txt"
    return caption_of(captions) if captions.is_file() else None
