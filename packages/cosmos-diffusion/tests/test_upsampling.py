"""Prompt upsampling: what is asked and when, what becomes of an answer, and an endpoint that fails in every way."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_diffusion.chat import Chat, Sampling, open_chat
from cosmos_diffusion.chat_endpoint import Endpoint
from cosmos_diffusion.negative_prompt import NEGATIVE_PROMPT
from cosmos_diffusion.upsampling import clean, last_frame, shrunk, upsample_text, upsample_video
from cosmos_tokenizer import InputError
from cosmos_tokenizer.images import write_image
from cosmos_tokenizer.video import Video, read_video, write_video


class Asked:
    """A language model that gives one answer, and what it was asked."""

    def __init__(self, answer: str = "A red ball rolls down a ramp.") -> None:
        self.answer = answer
        self.turns: list[tuple[str, np.ndarray | None, Sampling]] = []

    def reply(self, text: str, frame: np.ndarray | None, sampling: Sampling, /) -> str:
        self.turns.append((text, frame, sampling))
        return self.answer


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_short_prompt_is_asked_for_in_one_turn() -> None:
    chat = Asked("- **Scene:** A red ball\nrolls.")
    assert isinstance(chat, Chat)
    assert upsample_text("a red\n ball", chat) == "A red ball rolls."
    [(text, frame, sampling)] = chat.turns
    assert text.endswith("a red ball")
    assert frame is None
    assert (sampling.temperature, sampling.tokens, sampling.top_p) == (0.01, 512, None)


def test_a_frame_is_asked_for_without_the_prompt() -> None:
    chat = Asked()
    assert upsample_video(picture(40, 30), chat, prompt="zebra") == chat.answer
    [(text, frame, sampling)] = chat.turns
    assert frame is not None
    assert np.array_equal(frame, picture(40, 30))
    assert "150 words" in text
    assert "zebra" not in text
    assert (sampling.temperature, sampling.tokens, sampling.top_p) == (0.01, 400, 0.9)


@pytest.mark.parametrize(("words", "asked"), [(250, True), (251, False)])
def test_a_long_prompt_stands_as_it_is(words: int, asked: bool) -> None:
    prompt = "word \n" * words
    chat = Asked()
    for given in (upsample_text(prompt, chat), upsample_video(picture(8, 8), chat, prompt=prompt)):
        assert given == (chat.answer if asked else prompt)
    assert len(chat.turns) == 2 * asked


@pytest.mark.parametrize(
    ("size", "shown"), [((2000, 501), (1024, 257)), ((9, 1025), (9, 1024)), ((1024, 1024), (1024, 1024))]
)
def test_large_frames_are_shrunk(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert shrunk(picture(*size)).shape == (*shown, 3)


def test_a_video_shows_its_last_frame(tmp_path: Path) -> None:
    frames = np.stack([np.full((16, 24, 3), 40 * number, np.uint8) for number in range(5)])
    write_video(tmp_path / "a.mp4", Video(frames=frames, rate=Fraction(8)))
    assert np.array_equal(last_frame(tmp_path / "a.mp4"), read_video(tmp_path / "a.mp4").frames[-1])
    write_image(tmp_path / "a.png", picture(6, 5))
    assert np.array_equal(last_frame(tmp_path / "a.png"), picture(6, 5))


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("one\ntwo\r\n\n three ", "one two three"),
        ("- **Setting:** a street\n- **Light**: dusk", "a street dusk"),
        ("- **" + "word " * 9 + "** end", "end"),
        ("- **" + "word " * 10 + "** end", "**" + "word " * 10 + "** end"),
        ("Caption: a ball", "a ball"),
        ("##### - caption: , a ball", "a ball"),
        ("* a ball - and a box", "a ball - and a box"),
        ("-5 degrees, *bold* talk", "-5 degrees, *bold* talk"),
        ("**A ball** rolls", "**A ball** rolls"),
    ],
)
def test_answers_are_cleaned(answer: str, caption: str) -> None:
    assert clean(answer) == " ".join(caption.split())
    assert clean(clean(answer)) == clean(answer)


def test_an_answer_without_a_caption_is_named() -> None:
    with pytest.raises(InputError, match="holds no caption"):
        upsample_text("a ball", Asked("- **Scene:** \n ###"))


def test_the_negative_prompt_is_one_line_of_plain_words() -> None:
    assert NEGATIVE_PROMPT.isascii()
    assert NEGATIVE_PROMPT.isprintable()
    assert 50 < len(NEGATIVE_PROMPT.split()) < 250
    assert "  " not in NEGATIVE_PROMPT


ANSWER = json.dumps({"choices": [{"message": {"role": "assistant", "content": "A ball."}}]})


class Server(ThreadingHTTPServer):
    """Sends the responses that it is given, one a request, and keeps the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.responses: list[tuple[int, str, dict[str, str]]] = []
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.waits = threading.Event()
        self.waits.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), body))
        self.server.waits.wait()
        status, text, headers = self.server.responses.pop(0)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(text.encode()))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.waits.set()
        made.shutdown()
        thread.join()


def test_an_endpoint_is_asked_in_openais_form(server: Server) -> None:
    server.responses = [(200, ANSWER, {})] * 2
    assert upsample_text("a ball", Endpoint(server.url + "/", "nemo", key="secret")) == "A ball."
    assert upsample_video(picture(20, 2000), Endpoint(server.url, "pixtral")) == "A ball."
    server.responses = [(200, ANSWER, {})]
    chat = open_chat(f"{server.url}/chat/completions", model="nemo", key="hidden")
    assert upsample_text("a ball", chat) == "A ball."
    *requests, (whole_path, whole_headers, _) = server.requests
    assert (whole_path, whole_headers["Authorization"]) == ("/v1/chat/completions", "Bearer hidden")
    (path, headers, text), (other_path, other_headers, video) = requests
    assert path == other_path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in other_headers
    assert (text["model"], text["max_tokens"], text["temperature"]) == ("nemo", 512, 0.01)
    assert "top_p" not in text
    assert (video["model"], video["max_tokens"], video["top_p"]) == ("pixtral", 400, 0.9)
    [turn] = video["messages"]
    [words, shown] = turn["content"]
    assert (turn["role"], words["type"], shown["type"]) == ("user", "text", "image_url")
    head, _, data = shown["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.array(Image.open(io.BytesIO(base64.b64decode(data)))), shrunk(picture(20, 2000)))


def test_a_busy_endpoint_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("cosmos_diffusion.chat_endpoint.time.sleep", waits.append)
    server.responses = [(503, "starting", {}), (429, "busy", {}), (200, ANSWER, {})]
    assert upsample_text("a ball", Endpoint(server.url, "nemo", wait=1.5)) == "A ball."
    assert len(server.requests) == 3
    assert waits == [1.5, 3.0]


def test_an_endpoint_that_stays_busy_is_named(server: Server) -> None:
    server.responses = [(503, json.dumps({"error": {"message": "loading\nthe model"}}), {})] * 2
    with pytest.raises(InputError, match=r"did not answer in 2 tries: status 503, loading the model; start the server"):
        upsample_text("a ball", Endpoint(server.url, "nemo", wait=0.0, retries=1))
    assert not server.responses


@pytest.mark.parametrize(
    ("status", "text", "headers", "says"),
    [
        (404, json.dumps({"error": {"message": "no model nemo"}}), {}, "refused: status 404, no model nemo"),
        (401, "", {}, "refused: status 401, Unauthorized"),
        (302, "", {"Location": "http://127.0.0.1:1/"}, "refused: status 302"),
        (200, "<html>", {}, "sent no chat completion, but '<html>'"),
        (200, '{"choices": []}', {}, "sent no chat completion"),
        (200, '{"choices": [{"message": {"content": null}}]}', {}, "empty answer"),
        (200, '{"choices": [{"message": {"content": " \\n"}}]}', {}, "empty answer"),
        (200, "[" * 100_000, {}, "sent no chat completion"),
    ],
)
def test_refusals_are_not_tried_again(
    server: Server, status: int, text: str, headers: dict[str, str], says: str
) -> None:
    server.responses = [(status, text, headers)]
    with pytest.raises(InputError, match=says) as caught:
        upsample_text("a ball", Endpoint(server.url, "nemo", wait=0.0))
    assert len(server.requests) == 1
    assert "\n" not in str(caught.value)


def test_an_endpoint_that_hangs_up_or_is_silent_is_named(server: Server) -> None:
    server.responses = [(200, ANSWER, {"Content-Length": "9999"})]
    with pytest.raises(InputError, match="did not answer in one try: "):
        upsample_text("a ball", Endpoint(server.url, "nemo", retries=0, timeout=0.3))
    server.waits.clear()
    server.responses = [(200, ANSWER, {})]
    with pytest.raises(InputError, match="did not answer in one try: timed out"):
        upsample_text("a ball", Endpoint(server.url, "nemo", retries=0, timeout=0.05))


def test_an_endpoint_that_is_not_there_is_named(server: Server) -> None:
    url = server.url
    server.server_close()
    with pytest.raises(InputError, match="did not answer in 2 tries: .*refused"):
        upsample_text("a ball", Endpoint(url, "nemo", retries=1, wait=0.0))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Endpoint("file:///etc/passwd", "m"), "endpoint is 'file:///etc/passwd'"),
        (lambda: Endpoint("http://[", "m"), r"endpoint is 'http://\["),
        (lambda: Endpoint("http://host:port", "m"), "endpoint is 'http://host:port'"),
        (lambda: Endpoint("http://host/a b", "m"), "endpoint is 'http://host/a b'"),
        (lambda: Endpoint("http://host", ""), "which model"),
        (lambda: open_chat("http://host"), "http://host: which model"),
        (lambda: Endpoint("http://host", "m", key="a\nb"), "key has characters"),
        (lambda: Endpoint("http://host", "m", timeout=0), "timeout 0"),
        (lambda: Endpoint("http://host", "m", retries=-1), "retries -1"),
    ],
)
def test_endpoints_that_cannot_be_are_named(make: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_a_url_is_an_endpoint() -> None:
    assert isinstance(open_chat("https://host/v1", model="m"), Endpoint)
