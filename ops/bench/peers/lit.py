"""LitServe around the stage, with its own batching. ``python -m … PORT [MODEL]``."""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litserve
from fastapi import Request
from fastapi.responses import Response

from graphs.web.bodies import JsonResponse
from ops.bench.peers.bare_loop import load_stage

BATCH = 16
WAIT_S = 0.002


class FeatureApi(litserve.LitAPI):  # type: ignore[misc]
    """Bytes of an image in, features out."""

    def setup(self, device: str) -> None:
        self.stage = load_stage(*sys.argv[2:3])
        self.preparers = ThreadPoolExecutor(2)

    def decode_request(self, request: Request) -> bytes:
        # LitServe reads a body as JSON or as a form, never as plain bytes.
        data: bytes = request["file"].file.read()
        return data

    def batch(self, inputs: list[bytes]) -> list[Any]:
        return list(self.preparers.map(self.stage.prepare, inputs))

    def predict(self, batch: list[Any]) -> list[Any]:
        return list(self.stage.predict_batch(batch))

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any) -> Response:
        return JsonResponse({"features": output.raw})


if __name__ == "__main__":
    api = FeatureApi(max_batch_size=BATCH, batch_timeout=WAIT_S, api_path="/features")
    server = litserve.LitServer(api, accelerator="cpu", timeout=60)
    server.run(port=int(sys.argv[1]), host="127.0.0.1", log_level="warning", generate_client_file=False)
