"""Packets by the tables of an MP4 are those that FFmpeg reads."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.vision.media.conftest import MakeVideo
from tests.unit.vision.media.samples import RECIPES, X264, Recipe
from vision.media.container import MediaFile
from vision.media.index import index_of, read_packets
from vision.media.sample_tables import table_of

FILMS = {name: recipe for name, recipe in RECIPES.items() if recipe.container in ("mp4", "mov")} | {
    "with sound": Recipe(beeps=(0.5,), sound_s=4.0, encoder={**X264, "g": "20", "bf": "2"}),
    "late": Recipe(ticks=[450_000 + 3600 * n for n in range(60)], encoder={**X264, "g": "20", "bf": "2"}),
    "mov": Recipe("mov", beeps=(0.5,), encoder={**X264, "g": "10", "bf": "3"}),
    "header first": Recipe(beeps=(0.5,), encoder={**X264, "bf": "2"}, muxer={"movflags": "faststart"}),
}
READ_WHOLE = {"edit list", "fragmented"}
"""Films that are out of the ordinary."""


@pytest.mark.parametrize("name", FILMS)
def test_the_index_is_that_of_the_packets(name: str, video: MakeVideo) -> None:
    with MediaFile(video(FILMS[name])) as media:
        stream, sound = media.video(1), media.audio()
        table = table_of(media.source, stream, sound)
        assert (table is None) == (name in READ_WHOLE)
        if table is None:
            return
        read = read_packets(media.packets(stream), stream)
        if sound is not None:
            media.reopen()
            stream, sound = media.video(1), media.audio()
            read = replace(read, sound_end=max(float((p.pts + p.duration) * p.time_base) for p in media.packets(sound)))
        for column in ("pts", "dts", "key", "discard", "pos"):
            assert np.array_equal(getattr(table, column), getattr(read, column)), column
        assert table.sound_end == pytest.approx(read.sound_end, abs=1e-6)  # two ways to divide
        ours, theirs = (index_of(packets, stream.time_base, "mov") for packets in (table, read))
        assert ours.end == theirs.end
        assert ours.fps == theirs.fps


def test_a_film_that_was_cut_short_is_read(video: MakeVideo) -> None:
    data = video(FILMS["header first"]).read_bytes()
    with MediaFile(io.BytesIO(data[: len(data) // 2])) as media:
        assert table_of(media.source, media.video(1), media.audio()) is None


@pytest.mark.parametrize("seed", range(40))
def test_damaged_tables_are_no_error(seed: int, video: MakeVideo, tmp_path: Path) -> None:
    data = bytearray(video(FILMS["with sound"]).read_bytes())
    rng = np.random.default_rng(seed)
    first = data.rindex(b"moov")
    with MediaFile(io.BytesIO(bytes(data))) as media:
        stream, sound = media.video(1), media.audio()
        for place in rng.integers(first, len(data), 6):
            data[place] = rng.integers(256)
        table = table_of(io.BytesIO(bytes(data)), stream, sound)
        assert table is None or len(table.pts) == len(table.key) == 60


@pytest.mark.parametrize("boxes", [100, 20_000])
def test_a_header_of_very_many_boxes_is_not_walked_through(boxes: int, video: MakeVideo) -> None:
    data = video(FILMS["with sound"]).read_bytes()
    header = data.rindex(b"moov") - 4
    assert header + int.from_bytes(data[header : header + 4]) == len(data)
    longer = (len(data) - header + 8 * boxes).to_bytes(4)
    data = data[:header] + longer + data[header + 4 :] + b"\0\0\0\x08free" * boxes
    with MediaFile(io.BytesIO(data)) as media:
        table = table_of(media.source, media.video(1), media.audio())
        assert (table is None) == (boxes > 10_000)
