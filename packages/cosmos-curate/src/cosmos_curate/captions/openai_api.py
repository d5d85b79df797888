"""A captioner behind any endpoint of OpenAI's form that takes pictures, as vLLM and TensorRT-LLM serve it."""

import json
from typing import Any

from cosmos_curate.captions.captioner import Caption, CaptionError, tidy
from cosmos_curate.captions.http_json import Endpoint
from cosmos_curate.captions.pictures import data_urls
from cosmos_curate.captions.prompts import prompt_text, question
from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Frames


class OpenAICaptioner:
    """A `Captioner`: the likeliest answer (temperature 0, a fixed seed) to the pictures and a prompt, in one turn.

    Args:
        base_url: of the API, such as `http://localhost:8000/v1`; `/chat/completions` is appended.
        model: its name there.
        key: of the API; None where it needs none.
        prompt: one of `PROMPTS`, or a text.
        max_tokens: that the answer may have.
        seed: sent along; services that draw nothing ignore it.
        jpeg_quality: of the pictures, from 1 to 100.
        timeout_s, retries, wait_s: as of `Endpoint`.

    Raises:
        InputError: no http(s) URL, no name, or a number out of range.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key: str | None = None,
        prompt: str = "default",
        max_tokens: int = 256,
        seed: int = 0,
        jpeg_quality: int = 90,
        timeout_s: float = 120.0,
        retries: int = 5,
        wait_s: float = 1.0,
    ) -> None:
        if not model.strip() or not model.isprintable():
            raise InputError(f"model is {model!r}: give the name under which {base_url} serves it")
        if max_tokens < 1 or not 1 <= jpeg_quality <= 100:
            raise InputError(f"{max_tokens} tokens at most and JPEG quality {jpeg_quality}: from 1, and from 1 to 100")
        base = base_url.rstrip("/")
        url = base if base.endswith("/chat/completions") else f"{base}/chat/completions"
        self._endpoint = Endpoint(url=url, key=key, timeout_s=timeout_s, retries=retries, wait_s=wait_s)
        self._model, self._prompt, self._quality = model, prompt_text(prompt), jpeg_quality
        self._options = {"max_tokens": max_tokens, "temperature": 0, "seed": seed}

    @property
    def name(self) -> str:
        """The model's name there."""
        return self._model

    def request(self, frames: Frames) -> bytes:
        """Return the body that is posted for these frames."""
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": url}} for url in data_urls(frames, self._quality)
        ]
        content.append({"type": "text", "text": question(self._prompt, frames.times_s.tolist())})
        messages = [{"role": "user", "content": content}]
        return json.dumps({"model": self._model, "messages": messages, **self._options}).encode()

    def caption(self, frames: Frames, /) -> Caption:
        """Caption a window.

        Raises:
            CaptionError: no answer in all tries, a request refused, or an answer without a caption.
            InputError: the key is refused, or nothing is served there.
        """
        answer = self._endpoint.post(self.request(frames))
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"]
            ended = choice.get("finish_reason")
        except (LookupError, TypeError, AttributeError):
            shown = self._endpoint.hidden(" ".join(json.dumps(answer).split()))[:80]
            raise CaptionError(f"{self._endpoint.url} sent no chat completion, but {shown}") from None
        text = tidy(text) if isinstance(text, str) else ""
        if not text:
            raise CaptionError(f"{self._endpoint.url} sent an empty answer (it ended by {ended})")
        usage = answer.get("usage")
        return Caption(
            text=text,
            prompt_tokens=_count(usage, "prompt_tokens"),
            output_tokens=_count(usage, "completion_tokens"),
            truncated=ended == "length",
        )


def _count(usage: object, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**31 else None
