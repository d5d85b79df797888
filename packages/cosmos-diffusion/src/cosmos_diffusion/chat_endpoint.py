"""A language model behind an HTTP endpoint of OpenAI's form (``/chat/completions``), as vLLM and llama.cpp serve it."""

import base64
import http.client
import io
import json
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from cosmos_diffusion.chat import Frame, Sampling
from cosmos_tokenizer import InputError
from cosmos_tokenizer.jsontext import to_json

_LARGEST = 4 << 20  # bytes of an answer
_PASSING = (408, 409, 425, 429, 500, 502, 503, 504)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib would send the key on to wherever it is pointed."""

    def redirect_request(self, req: object, fp: object, code: int, msg: str, headers: object, newurl: str) -> None:
        """None: the answer is an error as it stands."""


class Endpoint:
    """A ``Chat``.

    Args:
        url: of the API, such as ``http://localhost:8000/v1``; ``/chat/completions`` is appended.
        model: its name there.
        key: is sent as a bearer token.
        timeout: seconds that one try may wait for the server.
        retries: further tries where the server is not there, busy or failing.
        wait: seconds before the first of those, twice as many before each next.

    Raises:
        InputError: no http(s) URL, no name, or a number out of range.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        timeout: int | float = 120.0,
        retries: int = 2,
        wait: int | float = 1.0,
    ) -> None:
        if not _is_http(url):
            raise InputError(f"endpoint is {url[:80]!r}: give an http or https URL such as http://localhost:8000/v1")
        if not model:
            raise InputError(f"{url}: which model is to answer there? give its name")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise InputError("the endpoint's key has characters that no HTTP header takes: copy it again")
        if timeout <= 0 or retries < 0 or wait < 0:
            raise InputError(f"timeout {timeout}, retries {retries}, wait {wait}: none may be negative, nor timeout 0")
        base = url.rstrip("/")
        self._url = base if base.endswith("/chat/completions") else f"{base}/chat/completions"
        self._model, self._key = model, key
        self._timeout, self._retries, self._wait = timeout, retries, wait

    def reply(self, text: str, frame: Frame | None, sampling: Sampling, /) -> str:
        """The answer to one turn.

        Raises:
            InputError: the server is not there in all tries, refuses, or sends no answer.
        """
        content: Any = text
        if frame is not None:
            picture = {"type": "image_url", "image_url": {"url": _data_url(frame)}}
            content = [{"type": "text", "text": text}, picture]
        request = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "temperature": sampling.temperature,
            "max_tokens": sampling.tokens,
        }
        if sampling.top_p is not None:
            request["top_p"] = sampling.top_p
        return self._answer(self._post(to_json(request).encode()))

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        opener = urllib.request.build_opener(_NoRedirect)
        reason = ""
        for number in range(self._retries + 1):
            if number:
                time.sleep(self._wait * 2 ** (number - 1))
            request = urllib.request.Request(self._url, data=body, headers=headers, method="POST")
            try:
                with opener.open(request, timeout=self._timeout) as response:
                    answer = response.read(_LARGEST)
                    if response.length:  # what is still to come
                        raise http.client.IncompleteRead(answer, response.length)
                    return answer
            except urllib.error.HTTPError as error:
                with error:
                    reason = f"status {error.code}, {_said(error)}"
                if error.code not in _PASSING:
                    raise InputError(
                        f"{self._url} refused: {reason}; check the URL, the model's name and the key"
                    ) from error
            except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
                cause = getattr(error, "reason", error)
                reason = (str(cause).strip() or type(cause).__name__).splitlines()[0][:160]
        tries = f"{self._retries + 1} tries" if self._retries else "one try"
        raise InputError(f"{self._url} did not answer in {tries}: {reason}; start the server, or upsample no prompt")

    def _answer(self, data: bytes) -> str:
        try:
            content = json.loads(data)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            shown = " ".join(data[:80].decode(errors="replace").split())
            raise InputError(f"{self._url} sent no chat completion, but {shown!r}; check the URL") from error
        if not isinstance(content, str) or not content.strip():
            raise InputError(f"{self._url} sent an empty answer; try again, or upsample no prompt")
        return content


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        there = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return there and parts.scheme in ("http", "https") and url.isascii() and url.isprintable() and " " not in url


def _data_url(frame: Frame) -> str:
    memory = io.BytesIO()
    Image.fromarray(frame).save(memory, "PNG")
    return "data:image/png;base64," + base64.b64encode(memory.getbuffer()).decode()


def _said(error: urllib.error.HTTPError) -> str:
    """The server's own words for what is wrong, in one line."""
    try:
        body = error.read(4096)
    except (OSError, http.client.HTTPException):
        body = b""
    try:
        said = json.loads(body)["error"]
        said = said["message"] if isinstance(said, dict) else said
    except (ValueError, LookupError, TypeError, RecursionError):
        said = body.decode(errors="replace")
    return " ".join(str(said).split())[:200] or str(error.reason)
