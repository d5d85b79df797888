"""The released models' text encoder, T5-11B (arXiv 1910.10683), through transformers (extra ``t5``)."""

import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_diffusion.language_models import float_type, pretrained, pretrained_model, transformers_library
from cosmos_diffusion.quantised import quantise
from cosmos_diffusion.resident import Resident, Rest
from cosmos_tokenizer import InputError
from cosmos_tokenizer.devices import available_device

T5_11B = "google-t5/t5-11b"
"""What the released models were trained with. Not t5-v1_1-xxl, which is of another width."""

Weights = Literal["float32", "bfloat16", "int8"]

_WHAT = "T5 encoder"
_PIPELINE = ("text_encoder", "tokenizer")
"""Where diffusers' pipelines keep it, which are smaller to fetch: no decoder, and half precision."""


class T5Encoder:
    """A ``TextEncoder``: the last hidden states of T5's encoder, padded with exact zeros.

    The weights (4.8 billion of T5-11B: 9.0 GiB in bfloat16) are read when first needed.

    Args:
        source: hub id or folder of a T5, or of a diffusers pipeline that has one.
        weights: "bfloat16", what diffusers computes in; "float32", as the original code; "int8", linear layers in
            eight bits and all else in bfloat16: half the memory once it is read.
        device: where it runs.
        rest: where the weights are between calls; "disk" frees all their memory when a call ends.
        length: vectors of a prompt; released models need 512.

    Raises:
        InputError: transformers is not installed; the source is no T5; there is no such device; an unknown word.
    """

    def __init__(
        self,
        source: str | Path = T5_11B,
        *,
        weights: Weights = "bfloat16",
        device: str | torch.device = "cpu",
        rest: Rest = "device",
        length: int = 512,
    ) -> None:
        self._source, self._weights = str(source), weights
        dtype = torch.bfloat16 if weights == "int8" else float_type(weights)
        if length < 1:
            raise InputError(f"length is {length}: give a whole number of vectors from 1 up")
        self._device = available_device(device)
        library = transformers_library()
        folder, tokenizer_folder = self._folders()
        config = pretrained(library.AutoConfig.from_pretrained, self._source, _WHAT, subfolder=folder)
        if config.model_type != "t5":
            raise InputError(f"{source}: is a model of type {config.model_type}, and a T5 encoder was expected")
        self._tokenizer = pretrained(
            library.AutoTokenizer.from_pretrained, self._source, "tokenizer", subfolder=tokenizer_folder
        )
        self._width, self._length = int(config.d_model), length
        self._dtype = dtype
        self._model = Resident(partial(self._read, folder), self._device, rest)

    @property
    def width(self) -> int:
        """Channels of a vector: 1024 for T5-11B."""
        return self._width

    @property
    def length(self) -> int:
        """Vectors of a prompt with its padding."""
        return self._length

    @property
    def name(self) -> str:
        """Source, weights and length, which are written beside embeddings."""
        return f"{self._source} {self._weights} {self._length}"

    def encode(self, prompts: Sequence[str], /) -> Float[Tensor, "B S K"]:
        """Embeddings of prompts, without gradients; what is behind ``length`` tokens of a prompt is cut off."""
        if not prompts:
            return torch.zeros(0, self._length, self._width, dtype=self._dtype, device=self._device)
        tokens = self._tokenizer(
            list(prompts),
            padding="longest",
            padding_side="right",
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        )
        ids_BS, given_BS = tokens.input_ids.to(self._device), tokens.attention_mask.to(self._device)
        with torch.no_grad():
            text_BSK = self._model.run(lambda model: model(input_ids=ids_BS, attention_mask=given_BS).last_hidden_state)
        text_BSK = text_BSK.masked_fill(given_BS[..., None] == 0, 0)
        return F.pad(text_BSK, (0, 0, 0, self._length - text_BSK.shape[1]))

    def free(self) -> None:
        """Free the memory of the weights, which the next call reads again."""
        self._model.free()

    def _read(self, folder: str) -> nn.Module:
        model = pretrained_model(
            transformers_library().T5EncoderModel, self._source, _WHAT, dtype=self._dtype, subfolder=folder
        )
        if self._weights == "int8":
            try:
                quantise(model, "int8")
            except InputError as error:
                raise InputError(f"{self._source}: {error}; copy it again") from error
        return model

    def _folders(self) -> tuple[str, str]:
        """Folders of encoder and tokenizer in the source; nowhere found, its root, where reading says what is wrong."""
        for folders in (("", ""), _PIPELINE):
            if Path(self._source, folders[0], "config.json").is_file():
                return folders
        if not Path(self._source).exists():
            library = transformers_library()
            for folders in (("", ""), _PIPELINE):  # a pipeline's repository has no config of its own
                with contextlib.suppress(OSError, ValueError):
                    library.AutoConfig.from_pretrained(self._source, subfolder=folders[0])
                    return folders
        return "", ""
