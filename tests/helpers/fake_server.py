"""A completions endpoint on the loopback that answers at once, or fails as servers do."""

import json
import threading
import time
from collections import deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log

TOP = {"A": log(0.5), " B": log(0.2), "C": log(0.1), " C": log(0.1), "\n": log(0.05)}


def openai(top=TOP):
    """An answer as OpenAI and vLLM write it."""
    logprobs = {"tokens": ["A"], "token_logprobs": [top.get("A")], "top_logprobs": [dict(top)]}
    return {"object": "text_completion", "choices": [{"text": "A", "logprobs": logprobs}]}


def llama_cpp(top=TOP):
    """An answer as llama.cpp's server writes it."""
    entries = [{"id": i, "token": t, "logprob": x} for i, (t, x) in enumerate(top.items())]
    place = {**entries[0], "top_logprobs": entries}
    return {"choices": [{"text": "A", "logprobs": {"content": [place]}}]}


def status(code, body=b"", **headers):
    """A fault: an error of this status."""

    def fault(handler):
        handler.say(code, body, **{k.replace("_", "-"): v for k, v in headers.items()})

    return fault


def hang_up(handler):
    """A fault: the connection drops before anything is said."""
    handler.close_connection = True


def break_off(handler):
    """A fault: the connection drops in the middle of the answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


class FakeServer:
    """What the endpoint has, and what it was asked.

    Attributes:
        url: of the API.
        faults: what the next completions meet, first first.
        prompts: of every completion that was answered.
        bodies: of every completion that was asked, in order.
        keys: the Authorization headers that came.
        headers: names of all headers that came.
        busiest: most completions under way at any moment.
        seconds: what an answer takes.
    """

    def __init__(self, models=("toy",), answer=lambda body: openai(), tokenize=None):
        self.models, self.answer, self.tokenize = models, answer, tokenize
        self.url = ""
        self.faults, self.prompts, self.bodies, self.keys = deque(), [], [], set()
        self.headers = set()
        self.busy = self.busiest = 0
        self.seconds = 0.0
        self.lock = threading.Lock()

    def complete(self, handler, body):
        with self.lock:
            self.bodies.append(body)
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            fault = self.faults.popleft() if self.faults else None
        time.sleep(self.seconds)
        with self.lock:
            self.busy -= 1
        if fault is not None:
            fault(handler)
            return
        handler.say(200, self.answer(body))
        with self.lock:
            self.prompts.append(body["prompt"])


@contextmanager
def serve(**how):
    """A running :class:`FakeServer`."""
    fake = FakeServer(**how)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def say(self, code, body=b"", **headers):
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self):
            fake.keys.add(self.headers.get("Authorization"))
            if self.path != "/v1/models" or fake.models is None:
                self.say(404)
            else:
                self.say(200, {"data": [{"id": name} for name in fake.models]})

        def do_POST(self):
            fake.headers.update(self.headers)
            fake.keys.add(self.headers.get("Authorization"))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/tokenize" and fake.tokenize:
                self.say(200, {"tokens": fake.tokenize(body["content"])})
            elif self.path == "/v1/completions":
                fake.complete(self, body)
            else:
                self.say(404)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    # A client that was killed leaves a broken pipe: nothing to report.
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
