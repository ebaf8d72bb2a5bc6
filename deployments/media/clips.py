"""media/clips: a part of a stored video as a stream of bytes, cut, copied, or with boxes drawn in.

The encoder is x264 as it comes with PyAV; see ``vision.media.plan`` for what a request can ask for and
``vision.media.encoder`` for the encoder's options.
"""

from functools import partial
from typing import Any, Final

from pydantic import Field, PositiveFloat, PositiveInt

from deployments.serving.stage import Stage, StageConfig, StageRef
from deployments.serving.stored import ReaderPool, StoredVideos
from deployments.serving.streams import ByteGenerator
from vision.errors import InvalidMedia
from vision.media.container import broken
from vision.media.encoder import CONTENT_TYPES, Opener, encode
from vision.media.nvdec import Decoder
from vision.media.plan import ClipFacts, ClipPlan, ClipRequest
from vision.media.reader import VideoReader
from vision.media.remux import copied_part, copied_type, copy
from vision.media.segments import segment, segments

TICK_S = 10.0


class Config(StageConfig):
    """``user_config`` of media/clips; all but ``max_streams`` and ``idle_s`` is read at load."""

    max_streams: PositiveInt = Field(default=4, description="clips at a time; further requests get a 429")
    decoder: Decoder = Field(
        default="software",
        description="auto or nvdec: on the GPU of the process, where an open video takes 100 to 500 MB",
    )
    decoder_threads: PositiveInt = Field(default=2, description="of the processor")
    idle_readers: PositiveInt = Field(default=4, description="open decoders that are kept for the next request")
    idle_bytes: PositiveInt = Field(default=512 * 2**20, description="memory that they may take together")
    idle_s: PositiveFloat = Field(default=60.0, description="how long they are kept")


CLIPS: Final = StageRef[ClipRequest, ClipFacts]("media/clips")


class ClipStreamer(Stage[Config, ClipRequest, ClipRequest, ClipFacts]):
    """ClipRequest → its bytes as a stream; an ordinary call returns what the stream would hold."""

    key = CLIPS.key
    stores = ("objects",)
    config_class = Config
    libraries = ("av",)
    tick_s = TICK_S

    _readers: ReaderPool
    _videos: StoredVideos

    def load(self) -> None:
        import cv2

        super().load()
        cv2.FontFace("sans")
        self._videos = StoredVideos()
        config = self.config
        self._readers = ReaderPool(
            self._videos.open,
            threads=config.decoder_threads,
            most_idle=config.idle_readers,
            most_bytes=config.idle_bytes,
            decoder=config.decoder,
        )

    def stream(self, item: ClipRequest) -> ByteGenerator:
        opener, plan = self._opener(item), item.plan
        copied = plan.action == "copy"
        with self._readers.borrowed(item.key, None if copied else partial(_first, plan)) as reader:
            try:
                yield from copy(reader, opener, plan) if copied else encode(reader, opener, plan, item.boxes)
            except broken() as error:
                # What a file has in its middle is its own fault, and the log needs no traceback of that.
                reason = getattr(error, "strerror", None) or type(error).__name__
                raise InvalidMedia(f"This video cannot be read on from some place in its middle: {reason}.") from error

    def predict(self, item: ClipRequest) -> ClipFacts:
        plan = item.plan
        with self._readers.borrowed(item.key) as reader:
            copied = plan.action == "copy"
            part = copied_part(reader, plan) if copied else plan.part(reader.times, reader.facts.duration)
            if plan.segment is not None:
                part = segment(reader.times, part, plan.segment)
            parts = segments(reader.times, part) if plan.segmented and plan.segment is None else []
            return ClipFacts(
                first_frame=part.first,
                last_frame=part.last,
                frame_count=part.last - part.first + 1,
                start_time=part.start,
                end_time=part.end,
                content_type=copied_type(reader, self._opener(item), plan) if copied else CONTENT_TYPES[plan.action],
                boundaries=(*(each.start for each in parts), parts[-1].end) if parts else (),
            )

    def _opener(self, request: ClipRequest) -> Opener:
        return partial(self._videos.open, request.key)

    def tick(self) -> None:
        self._readers.close_idle(self.config.idle_s)

    def close(self) -> None:
        self._readers.close_idle()

    def info(self) -> dict[str, Any]:
        return {
            "method": "PyAV: x264 and FFmpeg's AAC encoder, frames by presentation time",
            "licence": "x264 is under the GPL 2 or later",
        }


def _first(plan: ClipPlan, reader: VideoReader) -> int:
    """Return the first frame of a part, or of one segment of it."""
    part = plan.part(reader.times, reader.facts.duration)
    return part.first if plan.segment is None else segment(reader.times, part, plan.segment).first
