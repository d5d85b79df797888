"""The captioner behind an endpoint, against a real HTTP server that answers, stalls, refuses and lies."""

import base64
import email.utils
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cosmos_curate.captions import http_json
from cosmos_curate.captions.captioner import CaptionError, check_captioner, tidy
from cosmos_curate.captions.openai_api import OpenAICaptioner
from cosmos_curate.captions.prompts import PROMPTS, prompt_text
from cosmos_curate.captions.stage import CaptionConfig, caption_stage
from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Frames
from cosmos_curate.stage import Item, check_stage

KEY = "sk-not-for-anyones-eyes"


def answer(text: object = "A dog runs.", *, ended: str = "stop", usage: object = ...) -> dict[str, Any]:
    usage = {"prompt_tokens": 321, "completion_tokens": 7} if usage is ... else usage
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": ended}
    return {"object": "chat.completion", "choices": [choice], "usage": usage}


class Server:
    """An endpoint that gives the replies of a script in turn, the last one for ever: (status, headers, body, delay)."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], bytes, float]] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.paths: list[str] = []
        self.stop = threading.Event()
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                served.requests.append(json.loads(body))
                served.headers.append(self.headers)
                served.paths.append(self.path)
                status, headers, reply, delay = served.script[min(len(served.requests), len(served.script)) - 1]
                if served.stop.wait(delay):
                    return
                self.send_response(status)
                for name, value in {"Content-Length": str(len(reply)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                """Say nothing: clients that give up are what some tests want."""

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def says(self, *replies: Any, headers: dict[str, str] | None = None, delay: float = 0) -> None:
        for reply in replies:
            status, body = reply if isinstance(reply, tuple) else (200, reply)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.script.append((status, headers or {}, data, delay))

    def close(self) -> None:
        self.stop.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the waits between tries, which nobody waits for."""
    waits: list[float] = []

    class Clock:
        monotonic, time = staticmethod(time.monotonic), staticmethod(time.time)
        sleep = staticmethod(waits.append)

    monkeypatch.setattr(http_json, "time", Clock)
    return waits


def some_frames(count: int = 3, height: int = 33, width: int = 47, channels: int = 3, seed: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 256, (count, 4, 5, channels), np.uint8)
    pixels = np.stack([cv2.resize(one, (width, height)).reshape(height, width, channels) for one in low])
    return Frames(pixels=pixels, times_s=np.arange(count) * 0.5)


def sent_pictures(request: dict[str, Any]) -> list[np.ndarray]:
    (message,) = request["messages"]
    assert message["role"] == "user"
    pictures = []
    for part in message["content"]:
        if part["type"] == "image_url":
            head, data = part["image_url"]["url"].split(",")
            assert head == "data:image/jpeg;base64"
            raw = base64.b64decode(data, validate=True)
            assert raw.startswith(b"\xff\xd8\xff")
            assert raw.endswith(b"\xff\xd9")
            pictures.append(cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
    return pictures


def test_it_keeps_its_word_on_all_kinds_of_frames(server: Server) -> None:
    server.says(answer())
    captioner = OpenAICaptioner(server.url, "a-model")
    check_captioner(
        captioner, [some_frames(1, 16, 16), some_frames(8), some_frames(2, channels=1), some_frames(1, 1, 1)]
    )
    assert captioner.name == "a-model"


def test_pictures_arrive_whole_in_order_and_in_their_colours(server: Server) -> None:
    server.says(answer())
    frames = some_frames(5)
    OpenAICaptioner(server.url, "m", prompt="driving", max_tokens=99, seed=4).caption(frames)
    (request,) = server.requests
    assert server.paths == ["/v1/chat/completions"]
    pictures = sent_pictures(request)
    assert len(pictures) == 5
    for sent, meant in zip(pictures, frames.pixels, strict=True):
        assert sent.shape == meant.shape
        assert np.abs(sent.astype(int) - meant).mean() < 6
    assert request | {"messages": 0} == {
        "model": "m",
        "messages": 0,
        "max_tokens": 99,
        "temperature": 0,
        "seed": 4,
    }
    text = request["messages"][0]["content"][-1]["text"]
    assert text == f"5 frames in order of a video clip, shown at 0.0, 0.5, 1.0, 1.5, 2.0 s.\n{PROMPTS['driving']}"


def test_tokens_are_counted_and_ends_are_told(server: Server) -> None:
    server.says(answer(), answer(ended="length"), answer(usage=None), answer(usage={"prompt_tokens": "many"}))
    captioner = OpenAICaptioner(server.url, "m")
    made = [captioner.caption(some_frames()) for _ in range(4)]
    assert [(one.prompt_tokens, one.output_tokens) for one in made] == [(321, 7), (321, 7), (None, None), (None, None)]
    assert [one.truncated for one in made] == [False, True, False, False]


def test_captions_of_any_script_arrive(server: Server) -> None:
    text = "Ein Hündchen läuft – 犬が走る 🐕‍🦺.\n\nZweiter Absatz."
    server.says(answer(f" {text}\x00\r\n"), answer("half \ud83d a pair"))
    captioner = OpenAICaptioner(server.url, "m")
    assert captioner.caption(some_frames()).text == text.replace("\u200d", "")
    assert captioner.caption(some_frames()).text == "half ? a pair"


def test_thoughts_are_left_out() -> None:
    assert tidy("\n<think>A dog?\nYes.</think>\n\nA dog.") == "A dog."
    assert tidy("<think>A dog, or perhaps") == ""
    assert tidy("A sign says <think>.") == "A sign says <think>."


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_or_failing_service_is_asked_again(server: Server, slept: list[float], status: int) -> None:
    server.says((status, {"error": {"message": "busy"}}), (status, b"busy"), answer())
    assert OpenAICaptioner(server.url, "m", wait_s=2.0).caption(some_frames()).text == "A dog runs."
    assert len(server.requests) == 3
    assert server.requests[0] == server.requests[2]
    assert 1.5 <= slept[0] <= 2
    assert 3 <= slept[1] <= 4


def test_waits_double_up_to_half_a_minute(server: Server, slept: list[float]) -> None:
    server.says((503, b"no\nway"))
    with pytest.raises(CaptionError, match=r"gave no answer in 9 tries: status 503 \(no way\)$"):
        OpenAICaptioner(server.url, "m", retries=8).caption(some_frames())
    assert len(server.requests) == 9
    most = [1, 2, 4, 8, 16, 30, 30, 30]
    assert all(0.75 * limit <= wait <= limit for wait, limit in zip(slept, most, strict=True))


def test_the_wait_that_a_service_asks_for_is_kept(server: Server, slept: list[float]) -> None:
    for asked in ("7", "0", "100000", "soon", email.utils.formatdate(time.time() + 60, usegmt=True)):
        server.says((429, b"{}"), headers={"Retry-After": asked})
    server.says(answer())
    OpenAICaptioner(server.url, "m", wait_s=0.001).caption(some_frames())
    assert slept[:3] == [7, 0, 300]
    assert slept[3] < 0.01
    assert 50 < slept[4] <= 60


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "set OPENAI_API_KEY"), (403, "set another OPENAI_API_KEY"), (404, "check the base URL"), (405, "base URL")],
)
def test_a_setting_that_is_wrong_is_named_at_once(server: Server, slept: list[float], status: int, says: str) -> None:
    server.says((status, {"error": {"message": f"Incorrect API key provided: {KEY}\nbad"}}))
    with pytest.raises(InputError, match=says) as caught:
        OpenAICaptioner(server.url, "m", key=KEY).caption(some_frames())
    assert f"{server.url}/chat/completions answers status {status} (" in str(caught.value)
    assert "(the key) bad" in str(caught.value)
    assert slept == []
    assert len(server.requests) == 1
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def everything(error: BaseException | None) -> str:
    return "" if error is None else f"{error!r} {error} {everything(error.__cause__)}"


@pytest.mark.parametrize("reply", [(401, KEY), (400, KEY), (500, KEY), (302, ""), (200, KEY), (200, {"a": KEY})])
def test_the_key_is_in_no_error(server: Server, slept: list[float], reply: Any) -> None:
    status, body = reply
    server.says((status, json.dumps(body).encode()), headers={"Location": f"http://127.0.0.1:9/?key={KEY}"})
    with pytest.raises((InputError, CaptionError)) as caught:
        OpenAICaptioner(server.url, "m", key=KEY, retries=1).caption(some_frames())
    assert KEY not in everything(caught.value)
    assert KEY not in repr(http_json.Endpoint(url=server.url, key=KEY))


@pytest.mark.parametrize("status", [301, 302, 307])
def test_redirects_are_not_followed(server: Server, status: int) -> None:
    server.says((status, b""), headers={"Location": "/v2/chat/completions"})
    with pytest.raises(InputError, match="sends on to '/v2/chat/completions', which is not followed: give that URL"):
        OpenAICaptioner(server.url, "m", key=KEY).caption(some_frames())
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_refused_is_not_sent_again(server: Server, slept: list[float], status: int) -> None:
    server.says((status, {"object": "error", "message": "at most 4 images"}))
    with pytest.raises(CaptionError, match=rf"refuses: status {status} \(at most 4 images\)"):
        OpenAICaptioner(server.url, "m").caption(some_frames())
    assert len(server.requests) == 1
    assert slept == []


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"[1]", b'{"choices": [', b"\xff\xfe", b"[" * 10_000])
def test_an_answer_that_is_no_object_is_asked_for_again(server: Server, slept: list[float], body: bytes) -> None:
    server.says(body, answer())
    assert OpenAICaptioner(server.url, "m").caption(some_frames()).text == "A dog runs."
    server.script, server.requests = [], []
    server.says(body)
    with pytest.raises(CaptionError, match="in 2 tries: no JSON object, but '"):
        OpenAICaptioner(server.url, "m", retries=1).caption(some_frames())


@pytest.mark.parametrize(
    "body",
    [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": None}]}, {"choices": 3}, {"choices": [["a"]]}],
)
def test_an_object_without_an_answer_fails_the_window(server: Server, body: dict) -> None:
    server.says(body)
    with pytest.raises(CaptionError, match="sent no chat completion, but {"):
        OpenAICaptioner(server.url, "m").caption(some_frames())


@pytest.mark.parametrize("text", ["", " \n", None, 5, ["a"], "<think>hm"])
def test_an_empty_answer_fails_the_window(server: Server, text: Any) -> None:
    server.says(answer(text, ended="content_filter"))
    with pytest.raises(CaptionError, match=r"sent an empty answer \(it ended by content_filter\)"):
        OpenAICaptioner(server.url, "m").caption(some_frames())


def test_a_service_that_stalls_is_left_and_asked_again(server: Server, slept: list[float]) -> None:
    server.says(answer(), delay=60)
    server.says(answer())
    captioner = OpenAICaptioner(server.url, "m", timeout_s=0.2)
    assert captioner.caption(some_frames()).text == "A dog runs."
    assert len(slept) == 1
    server.script, server.requests = [], []
    server.says(answer(), delay=60)
    with pytest.raises(CaptionError, match="gave no answer in one try: timed out"):
        OpenAICaptioner(server.url, "m", timeout_s=0.2, retries=0).caption(some_frames())


def test_an_answer_that_is_cut_short_is_asked_for_again(server: Server, slept: list[float]) -> None:
    server.says(answer(), headers={"Content-Length": "5000"})
    server.says(answer())
    assert OpenAICaptioner(server.url, "m").caption(some_frames()).text == "A dog runs."
    assert len(slept) == 1


def test_an_endless_answer_is_not_read_to_its_end(server: Server, slept: list[float]) -> None:
    server.says(b" " * (5 << 20))
    with pytest.raises(CaptionError, match="an answer of over 4 MiB"):
        OpenAICaptioner(server.url, "m", retries=0).caption(some_frames())


def test_a_service_that_is_not_there_is_named(server: Server, slept: list[float]) -> None:
    server.says(answer())
    url = server.url
    server.http.server_close()
    with pytest.raises(CaptionError, match=rf"{re.escape(url)}/chat/completions gave no answer in 3 tries: .*refused"):
        OpenAICaptioner(url, "m", retries=2).caption(some_frames())
    assert len(slept) == 2


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://a/v1", "http://", "http://a b/v1", "http://a:0/v1", "http://ä/v1"]
)
def test_urls_that_are_none_are_named(url: str) -> None:
    with pytest.raises(InputError, match="give one such as http://localhost:8000/v1"):
        OpenAICaptioner(url, "m")


@pytest.mark.parametrize("url", [f"http://me:{KEY}@host/v1", f"http://host/v1?key={KEY}"])
def test_keys_in_urls_are_sent_back_unseen(url: str) -> None:
    with pytest.raises(InputError, match="set OPENAI_API_KEY instead") as caught:
        OpenAICaptioner(url, "m")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": " "}, "model is"),
        ({"max_tokens": 0}, "tokens at most"),
        ({"jpeg_quality": 101}, "quality 101"),
        ({"key": "a\nb"}, "OPENAI_API_KEY has characters"),
        ({"timeout_s": 0.0}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"prompt": "drivng"}, "give one of default, short"),
    ],
)
def test_arguments_out_of_range_are_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        OpenAICaptioner(**({"base_url": "http://localhost/v1", "model": "m"} | given))


def test_a_text_of_words_is_a_prompt_itself() -> None:
    assert prompt_text(" Say what you see. ") == "Say what you see."


def test_the_whole_url_may_be_given(server: Server) -> None:
    server.says(answer())
    OpenAICaptioner(f"{server.url}/chat/completions", "m").caption(some_frames())
    OpenAICaptioner(f"{server.url}/", "m").caption(some_frames())
    assert server.paths == ["/v1/chat/completions"] * 2


@pytest.fixture
def clip(tmp_path: Path, video: Callable) -> tuple[Item, np.ndarray]:
    """Return a clip of 50 frames, one of whose gaps is long, and when they are shown."""
    times = np.cumsum([0, *[0.04] * 29, 0.5, *[0.04] * 19])
    pixels = np.repeat(np.arange(50, dtype=np.uint8)[:, None, None, None] * 5, 32, 1).repeat(48, 2).repeat(3, 3)
    path = video(tmp_path / "clip.mp4", pixels, times_s=times.tolist())
    return Item(id="b" * 64, path=str(path), columns={"num_frames": 50}), times


def config_for(server: Server, **given: Any) -> CaptionConfig:
    return CaptionConfig(captioner="openai", base_url=server.url, model="a-model", **given)


def test_the_stage_captions_a_whole_clip(server: Server, clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.says(answer())
    item, times = clip
    stage = caption_stage(config_for(server, frames=4))
    (sampling,) = stage.samplings
    assert (sampling.rate, sampling.most, sampling.short_side) == (None, 4, 448)
    frames = {sampling: Frames(pixels=some_frames(4).pixels, times_s=times[[6, 18, 31, 43]])}
    check_stage(stage, item, frames)
    made = stage.open()(item, frames)
    window = {"first_frame": 0, "end_frame": 50, "caption": "A dog runs.", "status": "ok"}
    assert made == {
        "caption": "A dog runs.",
        "caption_source": "a-model",
        "windows": [window | {"prompt_tokens": 321, "output_tokens": 7}],
    }
    assert len(sent_pictures(server.requests[-1])) == 4
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in f"{stage}"


def test_the_stage_captions_windows_of_uneven_frames(server: Server, clip: Any) -> None:
    server.says(*(answer(f"Part {number}.") for number in range(3)))
    item, times = clip
    stage = caption_stage(config_for(server, window=20))
    (sampling,) = stage.samplings
    assert (sampling.rate, sampling.most) == (2.0, None)
    taken = np.array([0, 13, 25, 30, 42])
    frames = {sampling: Frames(pixels=some_frames(5).pixels, times_s=times[taken])}
    made = dict(stage.open()(item, frames))
    assert [(w["first_frame"], w["end_frame"], w["caption"]) for w in made["windows"]] == [
        (0, 20, "Part 0."),
        (20, 40, "Part 1."),
        (40, 50, "Part 2."),
    ]
    assert [len(sent_pictures(request)) for request in server.requests] == [2, 2, 1]
    for request, number in zip(server.requests, ([0, 1], [2, 3], [4]), strict=True):
        for sent, meant in zip(sent_pictures(request), frames[sampling].pixels[number], strict=True):
            assert np.abs(sent.astype(int) - meant).mean() < 6


def test_a_window_that_fails_does_not_lose_the_clip(server: Server, clip: Any) -> None:
    server.says((400, {"error": "too many"}), answer("Later.", ended="length"), (400, {"error": "too many"}))
    item, times = clip
    stage = caption_stage(config_for(server, window=20))
    frames = {stage.samplings[0]: Frames(pixels=some_frames(50).pixels, times_s=times)}
    made = dict(stage.open()(item, frames))
    assert made["caption"] == "Later."
    assert [window["status"][:9] for window in made["windows"]] == ["failed: h", "truncated", "failed: h"]
    assert made["windows"][0]["status"].endswith("refuses: status 400 (too many)")
    assert made["windows"][0]["caption"] is made["windows"][0]["output_tokens"] is None


def test_a_clip_that_fails_in_all_windows_raises(server: Server, clip: Any) -> None:
    server.says((400, {"error": "first"}), (400, {"error": "second"}))
    item, times = clip
    stage = caption_stage(config_for(server, window=20))
    frames = {stage.samplings[0]: Frames(pixels=some_frames(50).pixels, times_s=times)}
    with pytest.raises(CaptionError, match=r"refuses: status 400 \(first\)$"):
        stage.open()(item, frames)


def test_settings_that_change_captions_change_the_key_and_no_others(server: Server) -> None:
    keys = [
        caption_stage(config_for(server, **given)).key("x")
        for given in (
            {},
            {"prompt": "short"},
            {"frames": 9},
            {"window": 256},
            {"window": 256, "rate": 1.0},
            {"seed": 1},
            {"short_side": 336},
            {"max_tokens": 300},
        )
    ]
    assert all(one != other for one, other in itertools.combinations(keys, 2))
    assert keys[0] == caption_stage(config_for(server, timeout_s=1.0, retries=0, wait_s=0.0, rate=1.0)).key("x")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"captioner": "openai", "model": "m"}, "give both"),
        ({"captioner": "openai", "base_url": "http://a/v1"}, "give both"),
        ({"captioner": "transformers"}, "give model"),
        ({"window": 0}, "window is 0"),
        ({"frames": 0}, "frames is 0"),
        ({"rate": 0.0}, "rate is 0"),
        ({"jpeg_quality": 0}, "jpeg_quality is 0"),
        ({"timeout_s": 0.0}, "timeout_s 0"),
        ({"prompt": "no-such"}, "give one of default"),
    ],
)
def test_configs_out_of_range_are_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        CaptionConfig(**given)
