"""One name for each class of objects."""

import pytest

from vision.objects.classes import class_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dog", "dog"),
        (" Dog ", "dog"),
        ("traffic_light", "traffic light"),
        ("traffic-light", "traffic light"),
        ("TRAFFIC  light", "traffic light"),
        ("tvmonitor", "tv"),
        ("tv-monitor", "tv"),
        ("Motorbike", "motorcycle"),
        ("aeroplane", "airplane"),
        ("sofa", "couch"),
        ("pottedplant", "potted plant"),
        ("potted_plant", "potted plant"),
        ("diningtable", "dining table"),
        ("T-shirt", "t shirt"),
        ("_", ""),
        (" - ", ""),
    ],
)
def test_a_class_has_one_name(text: str, name: str) -> None:
    assert class_name(text) == name
    assert class_name(name) == name
