"""A provider of vision language models on loopback: the protocols of OpenAI, Anthropic and Google."""

import base64
import io
import json
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from vision.language.review import Question

KEY = "sk-test-0123456789abcdef"
REVIEW = {
    "overall_score": 8,
    "discard_reason": None,
    "best_in_group": True,
    "composition": "rule of thirds",
    "pose_quality": "natural and relaxed",
    "background_quality": "soft, not distracting",
    "highlights": ["genuine smile", "sharp eyes"],
    "issues": [],
    "summary": "A natural portrait.",
}
GOOD = json.dumps(REVIEW)
MODELS = ["openai/gpt-4o", "anthropic/claude-opus-4-6", "gemini/gemini-2.5-flash"]


def png() -> str:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


QUESTION = Question(png(), "openai/gpt-4o", timeout_s=20)


class Provider:
    """A provider on loopback; ``script`` says what it answers, in turn, the last one for ever.

    A text is the model's answer; a number is an error with that status; a function is called and its text answered.
    """

    def __init__(self) -> None:
        self.script: list[str | int | Callable[[], str]] = [GOOD]
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str] = []
        self.change: dict[str, Any] = {}
        """Of the answer's body."""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                provider.requests.append(body)
                provider.paths.append(self.path)
                given = (self.headers.get(name) for name in ("authorization", "x-api-key", "x-goog-api-key"))
                provider.keys.append(next(filter(None, given), "").removeprefix("Bearer "))
                says = provider.script[min(len(provider.requests), len(provider.script)) - 1]
                says = says() if callable(says) else says
                if isinstance(says, int):
                    self._send(says, {"error": {"message": f"the key {KEY} is not liked", "type": "x"}})
                else:
                    self._send(200, provider.answer(self.path, says) | provider.change)

            def _send(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                with suppress(ConnectionError):  # who did not want to wait
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, text: str) -> dict[str, Any]:
        if "generateContent" in path:
            return {
                "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 30, "candidatesTokenCount": 12, "totalTokenCount": 42},
            }
        if path.endswith("/messages"):
            return {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude-opus-4-6-20250514",
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 30, "output_tokens": 12},
            }
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-2024-08-06",
            "choices": [choice | {"finish_reason": "stop"}],
            "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42},
        }
