"""JSON posted to a service that may be busy, slow, away or wrong: tried again where that can help, else one line.

By urllib: it needs no package, obeys the proxies of the system, and its one connection a request costs a hundredth of
what a caption does. Redirects are not followed, for they would carry the key elsewhere.
"""

import email.utils
import http.client
import json
import random
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cosmos_curate.captions.captioner import CaptionError
from cosmos_curate.errors import InputError

_LARGEST = 4 << 20
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_LONGEST_WAIT_S, _LONGEST_ASKED_S = 30.0, 300.0
_WAYS_OUT = {
    401: "it wants another key; set OPENAI_API_KEY",
    403: "the key may not do this; set another OPENAI_API_KEY",
    404: "nothing is served there; check the base URL (it often ends in /v1) and the model's name",
    405: "it takes no requests of this kind; check the base URL (it often ends in /v1)",
}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: object, fp: object, code: int, msg: str, headers: object, newurl: str) -> None:
        """Return None: the answer is an error as it stands."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where to post, and how patiently.

    Args:
        url: http or https.
        key: sent as a bearer token; None sends none.
        timeout_s: for one try, from the first byte sent to the last received.
        retries: further tries after the first.
        wait_s: before the first of those, twice as long before each next, up to half a minute; each wait is shortened
            at random by up to a quarter, so that workers do not come back all at once. What the service asks for
            in `Retry-After` is waited for instead, up to five minutes.
    """

    url: str
    key: str | None = None
    timeout_s: float = 120.0
    retries: int = 5
    wait_s: float = 1.0

    def __post_init__(self) -> None:
        if not _is_http(self.url):
            raise InputError(f"base URL is {self.url[:80]!r}: give one such as http://localhost:8000/v1")
        parts = urlsplit(self.url)
        if parts.username is not None or parts.query or parts.fragment:
            raise InputError(
                f"base URL at {parts.hostname} has a name, a key or a query in it: set OPENAI_API_KEY instead"
            )
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise InputError("OPENAI_API_KEY has characters that no HTTP header takes: set it again")
        if not self.timeout_s > 0 or self.retries < 0 or not self.wait_s >= 0:
            raise InputError(
                f"timeout {self.timeout_s} s, {self.retries} retries, wait {self.wait_s} s: "
                "none may be negative, nor the timeout 0"
            )

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"

    def post(self, body: bytes) -> dict[str, Any]:
        """Post JSON and return the JSON object that answers it.

        Raises:
            InputError: the key is refused, or nothing is served there.
            CaptionError: no answer in all tries, or this request is refused.
        """
        reason = ""
        for number in range(self.retries + 1):
            wait_s = min(self.wait_s * 2**number, _LONGEST_WAIT_S) * random.uniform(0.75, 1)
            try:
                return _object(self._try(body))
            except urllib.error.HTTPError as error:
                with error:
                    said = self.hidden(_said(error))
                reason = f"status {error.code} ({said})"
                if error.code in _WAYS_OUT:
                    raise InputError(f"{self.url} answers {reason}: {_WAYS_OUT[error.code]}") from None
                if 300 <= error.code < 400:
                    place = self.hidden(str(error.headers.get("Location", "")))[:120]
                    raise InputError(
                        f"{self.url} sends on to {place!r}, which is not followed: give that URL"
                    ) from None
                if error.code not in _AGAIN:
                    raise CaptionError(f"{self.url} refuses: {reason}") from None
                asked_s = _asked_s(error.headers.get("Retry-After"))
                wait_s = wait_s if asked_s is None else asked_s
            except (OSError, http.client.HTTPException, ValueError) as error:  # URLError and timeouts are OSErrors
                cause = getattr(error, "reason", error)
                text = " ".join(str(cause).split())[:160]
                reason = self.hidden(text) or type(cause).__name__
            if number < self.retries:
                time.sleep(wait_s)
        tries = f"{self.retries + 1} tries" if self.retries else "one try"
        raise CaptionError(f"{self.url} gave no answer in {tries}: {reason}")

    def _try(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.url, data=body, headers=headers, method="POST")
        end = time.monotonic() + self.timeout_s
        parts, size = [], 0
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout_s) as response:
            while part := response.read1(1 << 16):
                parts.append(part)
                size += len(part)
                if size > _LARGEST:
                    raise ValueError(f"an answer of over {_LARGEST >> 20} MiB")
                if time.monotonic() > end:
                    raise TimeoutError(f"no whole answer in {self.timeout_s:g} s")
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        return b"".join(parts)

    def hidden(self, text: str) -> str:
        """Return a text without the key, which a service may send back."""
        return text.replace(self.key, "(the key)") if self.key else text


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"no JSON object, but {' '.join(data[:80].decode(errors='replace').split())!r}")
    return found


def _said(error: urllib.error.HTTPError) -> str:
    """Return the service's own words for what is wrong, in one line."""
    try:
        body = error.read(4096)
    except (OSError, http.client.HTTPException):
        body = b""
    try:
        said = json.loads(body)
        said = said.get("error", said.get("message", said.get("detail", said)))
        said = said.get("message", said) if isinstance(said, dict) else said
    except (ValueError, AttributeError, RecursionError):
        said = body.decode(errors="replace")
    return " ".join(str(said).split())[:200] or str(error.reason)


def _asked_s(header: str | None) -> float | None:
    """Return the seconds that a `Retry-After` asks for, a number or a date; None where it is neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), _LONGEST_ASKED_S) if seconds == seconds else None


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        there = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return there and parts.scheme in ("http", "https") and url.isascii() and url.isprintable() and " " not in url
