"""The media API and its stages in one bare process, without Ray: ``python -m ops.bench.media_server PORT``."""

import sys
from contextlib import suppress

import uvicorn
import uvloop

from configs.settings import settings
from deployments.serving.catalog import find_stage, local_handle
from graphs.web.apis import APIS
from graphs.web.gateway import build_app, open_context

STAGES = ("media/clips", "media/frames")
"""The others have handles that nobody calls."""


async def serve(port: int) -> None:
    """Serve until the process is told to end."""
    clips, frames = [await local_handle(find_stage(key)) for key in STAGES]
    handles = dict.fromkeys(APIS["media"].stages, clips) | {"media/frames": frames}
    app = build_app(open_context(settings(), handles), ["media"])
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1])))
