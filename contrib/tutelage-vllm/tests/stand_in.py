"""A server that speaks vLLM's protocol on a CPU: /health, /v1/models and /v1/completions with token ids.

It refuses fields that vLLM does not know, counts the stop token as vLLM does, and computes what waits in one batch. The
options make it fail: ``--crash-after N`` answers N requests and kills itself, ``--fail N`` sends status 500 N times.
``--text-only`` returns no token ids, as SGLang.

python stand_in.py FOLDER PORT [--pid FILE] [--seen FILE] [--crash-after N] [--fail N] [--slow SECONDS] [--text-only]
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KNOWN = {
    *("model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "n"),
    *("stop_token_ids", "skip_special_tokens", "return_token_ids", "stop", "stream"),
}
PARAMETERS = ("temperature", "top_p", "top_k", "min_p")


class Job:
    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.done = threading.Event()
        self.reply: dict[str, Any] = {}


class Engine:
    """Computes waiting requests in batches of the same sampling parameters."""

    def __init__(self, folder: str, text_only: bool) -> None:
        import torch

        from tutelage.records import Model
        from tutelage_transformers.models.loading import read
        from tutelage_transformers.settings import TransformersSettings

        torch.set_num_threads(1)
        self.loaded = read(Model("transformers", folder), TransformersSettings(device="cpu", dtype="float32"))
        self.text_only = text_only
        self.context = int(self.loaded.model.config.max_position_embeddings)
        self.waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        threading.Thread(target=self.work, daemon=True).start()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        job = Job(body)
        self.waiting.put(job)
        job.done.wait()
        return job.reply

    def work(self) -> None:
        while True:
            jobs = [self.waiting.get()]
            time.sleep(0.01)
            while not self.waiting.empty():
                jobs.append(self.waiting.get())
            kinds: dict[tuple[Any, ...], list[Job]] = {}
            for job in jobs:
                kinds.setdefault(tuple(job.body[key] for key in PARAMETERS), []).append(job)
            for parameters, alike in kinds.items():
                self.compute(alike, *parameters)

    def compute(self, jobs: list[Job], temperature: float, top_p: float, top_k: int, min_p: float) -> None:
        import torch

        from tutelage.records import Sampling
        from tutelage_transformers.generation import padded
        from tutelage_transformers.generation.requests import GenerationRequest

        longest = max(job.body["max_tokens"] for job in jobs)

        def uniforms(index: int) -> Any:
            generator = torch.Generator().manual_seed(jobs[index].body.get("seed", 0))
            return torch.rand(longest, dtype=torch.float64, generator=generator)

        requests = [
            GenerationRequest(index, job.body["prompt"], job.body["max_tokens"]) for index, job in enumerate(jobs)
        ]
        stops = frozenset(jobs[0].body["stop_token_ids"])
        sampling = Sampling(temperature, top_p, longest, top_k=None if top_k == -1 else top_k, min_p=min_p)
        for batch in padded.generate(self.loaded, requests, sampling, stops, uniforms):
            for generated in batch:
                job, ended = jobs[generated.index], generated.tokens[-1] in stops
                tokens = generated.tokens[:-1] if ended else generated.tokens
                skip = job.body.get("skip_special_tokens", True)
                job.reply = {
                    "object": "text_completion",
                    "model": job.body["model"],
                    "choices": [
                        {
                            "index": 0,
                            "text": self.loaded.tokenizer.decode(tokens, skip_special_tokens=skip),
                            "finish_reason": "stop" if ended else "length",
                            "token_ids": None if self.text_only else generated.tokens,
                        }
                    ],
                    "usage": {"prompt_tokens": len(job.body["prompt"]), "completion_tokens": len(generated.tokens)},
                }
                job.done.set()


class Handler(BaseHTTPRequestHandler):
    engine: Engine
    options: argparse.Namespace
    answered = 0
    lock = threading.Lock()

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        if self.path == "/health":
            self.send(200, None)
        elif self.path == "/v1/models":
            card = {"id": "stand-in", "object": "model", "max_model_len": self.engine.context}
            self.send(200, {"object": "list", "data": [card]})
        else:
            self.send(404, {"error": {"message": f"no path {self.path}"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        cls = type(self)
        with cls.lock:
            if self.options.seen:
                with Path(self.options.seen).open("a") as seen:
                    seen.write(json.dumps({"path": self.path, "body": body, "headers": dict(self.headers)}) + "\n")
            if self.options.fail > 0:
                self.options.fail -= 1
                self.send(500, {"error": {"message": "the engine hiccuped", "code": 500}})
                return
        if problem := self.problem(body):
            self.send(400, {"error": {"message": problem, "type": "BadRequestError", "code": 400}})
            return
        time.sleep(self.options.slow)
        reply = self.engine.answer(body)
        with cls.lock:
            if cls.answered == self.options.crash_after:
                print("CUDA error: an illegal memory access was encountered", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            cls.answered += 1
            self.send(200, reply)

    def problem(self, body: dict[str, Any]) -> str:
        if self.path != "/v1/completions":
            return f"no path {self.path}"
        if unknown := body.keys() - KNOWN:
            return f"unknown fields: {sorted(unknown)}"
        if body["model"] != "stand-in":
            return f"The model `{body['model']}` does not exist."
        if not isinstance(body["prompt"], list) or not all(isinstance(one, int) for one in body["prompt"]):
            return "the prompt must be token ids"
        if len(body["prompt"]) + body["max_tokens"] > self.engine.context:
            return f"This model's maximum context length is {self.engine.context} tokens."
        return ""

    def send(self, status: int, value: Any) -> None:
        content = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("port", type=int)
    parser.add_argument("--pid")
    parser.add_argument("--seen")
    parser.add_argument("--crash-after", type=int, default=-1)
    parser.add_argument("--fail", type=int, default=0)
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--text-only", action="store_true")
    Handler.options = parser.parse_args()
    if Handler.options.pid:
        with Path(Handler.options.pid).open("a") as file:
            file.write(f"{os.getpid()}\n")
    print(f"loading {Handler.options.folder}", flush=True)
    Handler.engine = Engine(Handler.options.folder, Handler.options.text_only)
    Server(("127.0.0.1", Handler.options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
