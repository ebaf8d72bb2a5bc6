"""Facts of videos whose headers say something else than their packets."""

import pytest

from tests.cases.conftest import CaseFile, CaseService


@pytest.mark.parametrize(
    ("maker", "name", "facts"),
    [
        ("fragmented", "fragmented.mp4", {"frame_count": 120}),
        ("edit_list", "edit_list.mp4", {"frame_count": 60, "duration": pytest.approx(2.0, abs=0.01)}),
        ("late_start", "late_start.mkv", {"duration": pytest.approx(2.0, abs=0.05)}),
        ("late_start", "late_start.webm", {"duration": pytest.approx(2.0, abs=0.05)}),
        ("live", "live.webm", {"fps": pytest.approx(28.8, abs=0.6)}),
    ],
)
async def test_facts_come_from_the_packets(
    case: CaseFile, served: CaseService, maker: str, name: str, facts: dict[str, float]
) -> None:
    uploaded = await served.upload(case(maker, name))
    assert {fact: uploaded[fact] for fact in facts} == facts
