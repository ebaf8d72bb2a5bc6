"""The index of packets, from packets as containers give them."""

from fractions import Fraction
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vision.errors import InvalidMedia
from vision.media import index as index_module
from vision.media.index import PacketIndex, index_of, read_packets

BASE = Fraction(1, 1000)
POSITIONS = count(0, 100)


def packet(pts: int | None, dts: int | None, *, key: bool = False, discard: bool = False, duration: int = 40) -> Any:
    return SimpleNamespace(
        stream_index=0,
        pts=pts,
        dts=dts,
        is_keyframe=key,
        is_discard=discard,
        size=100,
        duration=duration,
        pos=next(POSITIONS),
        time_base=BASE,
    )


def read(*packets: Any, container: str = "matroska") -> PacketIndex:
    stream = SimpleNamespace(index=0, codec_context=SimpleNamespace(name="h264"))
    return index_of(read_packets(packets, stream), BASE, container)


def test_frames_are_in_order_of_presentation() -> None:
    index = read(packet(0, -40, key=True), packet(120, 0), packet(40, 40), packet(80, 80), packet(160, 120, key=True))
    assert index.pts.tolist() == [0, 40, 80, 120, 160]
    assert index.keys.tolist() == [0, 160]
    np.testing.assert_allclose(index.times, [0, 0.04, 0.08, 0.12, 0.16])
    assert index.end_time == pytest.approx(0.2)
    assert [index.key_before(frame) for frame in range(5)] == [0, 0, 0, 0, 1]
    assert [index.number_of(pts) for pts in (80, 81, None, 160, 200)] == [2, None, None, 4, None]
    assert (index.counted, index.open_gop, index.discarded) == (False, False, 0)


def test_a_frame_shown_before_its_key_frame_belongs_to_the_one_before() -> None:
    index = read(packet(0, -40, key=True), packet(40, 0), packet(120, 40, key=True), packet(80, 80), packet(160, 120))
    assert index.open_gop
    assert [index.key_before(frame) for frame in range(5)] == [0, 0, 0, 1, 1]


def test_discarded_packets_are_no_frames_but_can_be_keys() -> None:
    index = read(packet(0, 0, key=True, discard=True), packet(40, 40, discard=True), packet(80, 80), packet(120, 120))
    assert index.pts.tolist() == [80, 120]
    assert index.keys.tolist() == [0]
    assert index.discarded == 2
    assert index.origin == pytest.approx(0.08)
    edited = read(packet(-40, -40, key=True), packet(0, 0), packet(40, 40), container="mov")
    assert edited.pts.tolist() == [0, 40]
    assert edited.keys.tolist() == [-40]
    assert read(packet(-40, -40, key=True), packet(0, 0)).pts.tolist() == [-40, 0]


def test_nothing_before_the_first_key_frame_counts() -> None:
    index = read(packet(0, 0), packet(40, 40), packet(80, 80, key=True), packet(120, 120))
    assert index.pts.tolist() == [80, 120]
    assert index.starting_at(1).pts.tolist() == [120]


@pytest.mark.parametrize(
    "packets",
    [
        [packet(None, 0, key=True), packet(None, 40), packet(None, 80)],
        [packet(90_000, 90_000, key=True), packet(90_040, 90_040), packet(0, 0, key=True)],
    ],
)
def test_where_times_cannot_be_trusted_frames_are_counted(packets: list[Any]) -> None:
    index = read(*packets)
    assert index.counted
    assert len(index.keys) == 0
    np.testing.assert_allclose(index.times, [0, 0.04, 0.08])
    assert index.key_before(2) == -1


def test_times_that_are_guessed_are_not_trusted() -> None:
    packets = packet(0, 0, key=True), packet(80, 40), packet(40, 80)
    assert not read(*packets).counted
    assert read(*packets, container="avi").counted
    assert not read(packet(0, 0, key=True), packet(40, 40), container="avi").counted


def test_the_last_frame_lasts_as_long_as_it_says_or_as_the_others() -> None:
    assert read(packet(0, 0, key=True), packet(40, 40), packet(80, 80, duration=500)).end == 580
    assert read(packet(0, 0, key=True), packet(40, 40), packet(80, 80, duration=1)).end == 120
    assert read(packet(0, 0, key=True, duration=0)).end == 0


def test_no_frames_or_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidMedia, match="no frames"):
        read()
    with pytest.raises(InvalidMedia, match="no frames"):
        read(packet(0, 0, key=True, discard=True))
    monkeypatch.setattr(index_module, "MAX_PACKETS", 2)
    with pytest.raises(InvalidMedia, match="more than 2 frames"):
        read(*(packet(time, time, key=True) for time in range(3)))
