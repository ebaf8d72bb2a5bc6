"""JSON answers written by orjson: numpy vectors go out without becoming Python lists first."""

from typing import Any

import orjson
from fastapi.responses import Response


class JsonResponse(Response):
    """A response whose content may hold numpy arrays and datetimes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z)
