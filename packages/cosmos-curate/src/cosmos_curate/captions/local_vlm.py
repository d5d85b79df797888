"""A captioner on this machine: a vision-language model of transformers (extra `vlm`), from a folder or a hub id."""

from typing import Any

from cosmos_curate.captions.captioner import Caption, CaptionError, rgb, tidy
from cosmos_curate.captions.pretrained import (
    pretrained,
    pretrained_model,
    source_name,
    torch_device,
    transformers_library,
)
from cosmos_curate.captions.prompts import prompt_text, question
from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Frames

_WHAT = "vision-language model"


class LocalCaptioner:
    """A `Captioner`: the likeliest tokens one by one, so the same caption every time on the same device.

    Args:
        source: folder or hub id of a model that `AutoModelForImageTextToText` and `AutoProcessor` read, whose
            processor has a template for conversations. Where torchvision is not installed, processors that work
            without it are used.
        revision: branch, tag or commit of a hub id.
        device: "auto" for the GPU where there is one, else the CPU; or torch's name of one.
        prompt: one of `PROMPTS`, or a text.
        max_tokens: that the caption may have.

    Raises:
        InputError: transformers is not installed, or there is no such model, device or template.
    """

    def __init__(
        self,
        source: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        prompt: str = "default",
        max_tokens: int = 256,
    ) -> None:
        if max_tokens < 1:
            raise InputError(f"{max_tokens} tokens at most: give a whole number from 1 up")
        library = transformers_library()
        self._device = torch_device(device)
        self._source, self._prompt, self._max_tokens = source, prompt_text(prompt), max_tokens
        given = {} if revision is None else {"revision": revision}
        self._processor: Any = pretrained(library.AutoProcessor.from_pretrained, source, "processor", **given)
        if not hasattr(self._processor, "image_processor"):
            raise InputError(f"{source}: takes no pictures; give a model that does")
        kind = library.AutoModelForImageTextToText
        self._model = pretrained_model(kind, source, _WHAT, self._device, **given)
        self._name = source_name(source)

    @property
    def name(self) -> str:
        """The hub id, or the folder's name and the start of a hash of its weights."""
        return self._name

    def caption(self, frames: Frames, /) -> Caption:
        """Caption a window.

        Raises:
            CaptionError: the model writes nothing.
            InputError: its processor has no template for conversations.
        """
        import torch
        from PIL import Image

        content: list[dict[str, str]] = [{"type": "image"} for _ in frames.times_s]
        content.append({"type": "text", "text": question(self._prompt, frames.times_s.tolist())})
        try:
            prompt = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
        except ValueError as error:
            reason = str(error).splitlines()[0][:160]
            raise InputError(f"{self._source}: has no template for conversations ({reason})") from error
        # Some processors guess the axes of arrays. The template writes the marks of the beginning itself.
        images = [Image.fromarray(picture) for picture in rgb(frames)]
        inputs = self._processor(text=[prompt], images=images, return_tensors="pt", add_special_tokens=False)
        inputs.pop("token_type_ids", None)
        dtype = self._model.dtype
        given = {k: v.to(self._device, dtype if v.is_floating_point() else None) for k, v in inputs.items()}
        with torch.inference_mode():
            made = self._model.generate(
                **given, max_new_tokens=self._max_tokens, do_sample=False, temperature=None, top_p=None, top_k=None
            )
        prompt_tokens = inputs["input_ids"].shape[1]
        written = made[0, prompt_tokens:].tolist()
        text = tidy(self._processor.tokenizer.decode(written, skip_special_tokens=True))
        if not text:
            raise CaptionError(f"{self._name} wrote an empty caption")
        return Caption(
            text=text,
            prompt_tokens=prompt_tokens,
            output_tokens=len(written),
            truncated=len(written) >= self._max_tokens and written[-1] not in self._ends(),
        )

    def _ends(self) -> list[int]:
        ends = self._model.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]
