"""A language model of transformers on this machine (extra ``t5``), with pictures where it takes them."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from cosmos_diffusion.chat import Frame, Sampling
from cosmos_diffusion.language_models import (
    FloatType,
    float_type,
    pretrained,
    pretrained_model,
    transformers_library,
)
from cosmos_diffusion.resident import Resident, Rest
from cosmos_tokenizer import InputError
from cosmos_tokenizer.devices import available_device

_WHAT = "language model"


class LocalChat:
    """A ``Chat`` that answers greedily: the same answer every time, as a temperature near zero all but gives.

    Args:
        source: folder or hub id.
        weights: dtype in which it runs.
        device: where.
        rest: where the weights are between calls; by default their memory is freed when an answer is there.

    Raises:
        InputError: transformers is not installed, or there is no such model or device.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        weights: FloatType = "bfloat16",
        device: str | torch.device = "cpu",
        rest: Rest = "disk",
    ) -> None:
        self._source = str(source)
        self._device = available_device(device)
        library = transformers_library()
        config = pretrained(library.AutoConfig.from_pretrained, self._source, _WHAT)
        self._sees = hasattr(config, "vision_config")
        reader = library.AutoProcessor if self._sees else library.AutoTokenizer
        self._reader = pretrained(reader.from_pretrained, self._source, "processor" if self._sees else "tokenizer")
        kind = library.AutoModelForImageTextToText if self._sees else library.AutoModelForCausalLM
        load = partial(pretrained_model, kind, self._source, _WHAT, dtype=float_type(weights))
        self._model = Resident(load, self._device, rest)

    def reply(self, text: str, frame: Frame | None, sampling: Sampling, /) -> str:
        """The answer to one turn, of at most ``sampling.tokens`` tokens, each the likeliest.

        Raises:
            InputError: a picture is given and the model takes none, or it has no template for a conversation.
        """
        if frame is not None and not self._sees:
            raise InputError(f"{self._source}: takes no pictures; give a model that does, such as a Pixtral or Llava")
        content: Any = text
        if self._sees:
            content = [{"type": "text", "text": text}]
            if frame is not None:
                content.insert(0, {"type": "image"})
        try:
            prompt = self._reader.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
        except ValueError as error:
            reason = str(error).splitlines()[0][:160]
            raise InputError(f"{self._source}: has no template for a conversation ({reason})") from error
        given = {} if frame is None else {"images": [Image.fromarray(frame)]}
        # The template writes the marks of the beginning itself.
        inputs = self._reader(text=prompt, return_tensors="pt", add_special_tokens=False, **given)
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            made_BL = self._model.run(partial(self._generate, inputs, sampling.tokens))
        tokenizer = self._reader.tokenizer if self._sees else self._reader
        answer = tokenizer.decode(made_BL[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        if not answer.strip():
            raise InputError(f"{self._source}: gave an empty answer; upsample no prompt, or take another model")
        return answer

    def _generate(self, inputs: Any, tokens: int, model: nn.Module) -> torch.Tensor:  # noqa: ANN401 - of transformers
        dtype = next(model.parameters()).dtype
        moved = {
            name: value.to(self._device, dtype if value.is_floating_point() else None) for name, value in inputs.items()
        }
        generate: Any = model.generate
        made = generate(**moved, max_new_tokens=tokens, do_sample=False, temperature=None, top_p=None, top_k=None)
        return made.cpu()
