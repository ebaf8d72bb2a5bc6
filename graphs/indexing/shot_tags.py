"""Tags of the objects that shots show, from the tracks in the index of their film.

A film may be indexed, or indexed again, before or after its shots are stored in the library. So whoever changes one of
the two writes that first, and then brings the tags of the film's shots up to date: of two at once, the later one sees
what the earlier one has written.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate
from operator import attrgetter

from graphs.indexing.tags import appearances_of, rounded
from graphs.web.context import Context
from stores.people import ObjectRecord
from stores.shots import Shot, ShotSpan
from vision.objects.tags import Tag, tags_of_stretch


@dataclass(frozen=True, slots=True, eq=False)
class FilmObjects:
    """The tracks of a film by their first frame; ``latest``: for each, the last frame of it and of all before it.

    ``version``: of its index, None where nobody looked for objects.
    """

    asset_id: str
    version: tuple[datetime, str] | None
    tracks: list[ObjectRecord]
    latest: list[int]

    @classmethod
    async def of(cls, context: Context, asset_id: str) -> "FilmObjects":
        """Return those of the index of a film, of which there may be none. Raises StoreError."""
        version = await _version(context, asset_id)
        tracks = [] if version is None else await context.people.list_objects(asset_id)
        tracks.sort(key=attrgetter("first_frame"))
        return cls(asset_id, version, tracks, list(accumulate((each.last_frame for each in tracks), max)))

    async def is_current(self, context: Context) -> bool:
        """Return whether the index is still the same. Raises StoreError."""
        return self.version == await _version(context, self.asset_id)

    def tags(self, shot: Shot | ShotSpan) -> tuple[Tag, ...] | None:
        """Return the tags of a shot, longest seen first, in the digits of answers; None where nobody looked."""
        if self.version is None:
            return None
        # By frames: times that clients send back have fewer digits, and would touch what is beside the shot.
        begun = bisect_right(self.tracks, shot.end_frame, key=attrgetter("first_frame"))
        tracks = self.tracks[bisect_left(self.latest, shot.start_frame) : begun]
        seen = appearances_of(each for each in tracks if each.last_frame >= shot.start_frame)
        return tuple(map(rounded, tags_of_stretch(seen, shot.start_timestamp, shot.end_timestamp)))

    def tagged(self, shots: Iterable[Shot]) -> list[Shot]:
        """Return shots of the film with their tags."""
        return [replace(shot, objects=self.tags(shot)) for shot in shots]


async def tag_stored_shots(context: Context, asset_id: str) -> None:
    """Bring the tags of all shots of a film in the library up to date with its index. Raises StoreError."""
    while spans := await context.shots.spans(asset_id):
        film = await FilmObjects.of(context, asset_id)
        tags = {span.shot_id: film.tags(span) for span in spans}
        outdated = {span.shot_id: tags[span.shot_id] for span in spans if tags[span.shot_id] != span.objects}
        await context.shots.set_objects(outdated)
        # Another index may have come in between, and its tags have just been overwritten with older ones.
        if await film.is_current(context):
            return


async def _version(context: Context, asset_id: str) -> tuple[datetime, str] | None:
    index = await context.people.get_index(asset_id)
    return None if index is None or index.objects is None else (index.indexed_at, index.objects)
