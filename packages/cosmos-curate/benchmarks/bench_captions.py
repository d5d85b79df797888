"""Throughput of the caption stage against the bare endpoint: the same requests, as many at once.

    python benchmarks/bench_captions.py                                    a server of a fixed service time, made here
    python benchmarks/bench_captions.py --base-url http://host:8000/v1 --model NAME

The bare endpoint is given bodies made beforehand, over connections that stay open. The stage starts from frames in
memory: it makes pictures and bodies, opens a connection a request, and reads answers and counts. Both are run in
turn, `--rounds` times; the median counts. The server made here answers `--concurrency` requests at once whoever asks:
with half as many workers more the stage makes bodies while others wait.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from cosmos_curate.captions.openai_api import OpenAICaptioner
from cosmos_curate.captions.stage import KEY, CaptionConfig, caption_clip, caption_stage
from cosmos_curate.media.frames import Frames

WORDS, FRAMES = 97, 8


def serve(service_s: float, slots: int, ready: Connection) -> None:
    """Answer every request after a fixed time, so many at once: no model."""
    free = threading.BoundedSemaphore(slots)
    usage = {"prompt_tokens": 5000, "completion_tokens": WORDS}
    message = {"role": "assistant", "content": " ".join(["word"] * WORDS)}
    reply = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with free:
                time.sleep(service_s)
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    server = Server(("127.0.0.1", 0), Handler)
    ready.send(server.server_port)
    server.serve_forever()


def clip(number: int, height: int, width: int) -> Frames:
    """Return frames with the detail of a picture, others for each clip."""
    import cv2

    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (FRAMES, height // 16, width // 16, 3), np.uint8)
    pixels = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse])
    noise = rng.integers(0, 12, pixels.shape, np.uint8)
    return Frames(pixels=np.minimum(pixels, 243) + noise, times_s=np.arange(FRAMES) * 0.5)


class Bare:
    """Posts bodies as they are, a connection a thread that stays open."""

    def __init__(self, base_url: str) -> None:
        self._parts = urlsplit(f"{base_url.rstrip('/')}/chat/completions")
        self._own = threading.local()
        self._headers = {"Content-Type": "application/json"}
        if os.environ.get(KEY):
            self._headers["Authorization"] = f"Bearer {os.environ[KEY]}"

    def __call__(self, body: bytes) -> int:
        if not hasattr(self._own, "connection"):
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            self._own.connection = kind(self._parts.netloc, timeout=600)
        self._own.connection.request("POST", self._parts.path, body, self._headers)
        answer = json.loads(self._own.connection.getresponse().read())
        return int(answer["usage"]["completion_tokens"])


def ours(config: CaptionConfig, own: threading.local, frames: Frames) -> int:
    """Caption a clip as a worker of the stage does; return its tokens."""
    if not hasattr(own, "captioner"):
        own.captioner = OpenAICaptioner(config.base_url or "", config.model or "", key=os.environ.get(KEY) or None)
    columns: Mapping[str, Any] = caption_clip(own.captioner, np.arange(96) / 24, frames, config)
    return sum(window["output_tokens"] or 0 for window in columns["windows"])


def timed(work: Callable[[Any], int], given: list[Any], concurrency: int) -> tuple[float, float, int]:
    """Return seconds, processor seconds of this process, and tokens."""
    with ThreadPoolExecutor(concurrency) as pool:
        start, busy = time.perf_counter(), time.process_time()
        tokens = sum(pool.map(work, given))
        return time.perf_counter() - start, time.process_time() - busy, tokens


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", help="of a real endpoint; default: a server without a model, made here")
    parser.add_argument("--model", default="none", help="its name there")
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--concurrency", type=int, default=16, help="requests at once")
    parser.add_argument("--service", type=float, default=1.0, help="seconds that the server made here takes")
    parser.add_argument("--size", default="448x796", help="height x width of pictures")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    server = None
    base_url = args.base_url
    if base_url is None:
        there, here = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        server = context.Process(target=serve, args=(args.service, args.concurrency, here), daemon=True)
        server.start()
        base_url = f"http://127.0.0.1:{there.recv()}/v1"
        what = f"a server without a model: {args.service:g} s a request, {args.concurrency} at once"
    else:
        what = f"{args.model} at {base_url}"
    config = CaptionConfig(captioner="openai", base_url=base_url, model=args.model)
    assert caption_stage(config).writes
    maker = OpenAICaptioner(base_url, args.model)
    clips = [clip(number, height, width) for number in range(args.clips)]
    bodies = [maker.request(frames) for frames in clips]
    print(f"{what}; {args.clips} clips of {FRAMES} pictures {args.size}, {len(bodies[0]) >> 10} KiB a request")
    bare, stage = Bare(base_url), partial(ours, config, threading.local())
    more = args.concurrency + (args.concurrency + 1) // 2
    ways: dict[str, Callable[[], tuple[float, float, int]]] = {
        "bare endpoint": lambda: timed(bare, bodies, args.concurrency),
        "caption stage": lambda: timed(stage, clips, args.concurrency),
    }
    if server is not None:
        ways[f"{more} workers"] = lambda: timed(stage, clips, more)
    rows: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, run in ways.items():
            rows[name].append(run())
    rates = {}
    for name, runs in rows.items():
        seconds, busy, tokens = (statistics.median(values) for values in zip(*runs, strict=True))
        rates[name] = args.clips / seconds
        spread = f"{min(run[0] for run in runs):.2f} to {max(run[0] for run in runs):.2f} s"
        print(
            f"{name:14} {rates[name]:7.2f} clips/s  {tokens / seconds:8.0f} tokens/s  "
            f"{busy / args.clips * 1000:6.1f} ms of processor a clip  ({spread})"
        )
    for name in list(ways)[1:]:
        print(f"{name} / bare endpoint: {rates[name] / rates['bare endpoint']:.3f}")
    if server is not None:
        server.terminate()


if __name__ == "__main__":
    main()
