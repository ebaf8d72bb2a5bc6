"""Classes of objects in texts of people."""

import pytest

from vision.objects.mentions import COCO, Vocabulary

WORDS = Vocabulary()


def test_every_class_is_named_by_its_name() -> None:
    assert len(COCO) == 80
    assert all(WORDS.class_of(name) == name for name in COCO)
    in_texts = COCO - {"orange", "remote"}  # a colour, and far away
    assert all(WORDS.named_in(f"there is a {name} in the room") == [name] for name in in_texts)
    assert WORDS.named_in("an orange wall in a remote village") == []
    assert WORDS.named_in("Oranges; two remotes, a remote control") == ["orange", "remote"]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("Two dogs run along a beach", ["dog"]),
        ("a dog, a Dog and DOGS", ["dog"]),
        ("children and puppies watch the ferries", ["person", "dog", "boat"]),
        ("The men\u2019s horses, the women's bikes", ["person", "horse", "bicycle"]),
        ("a lorry behind three buses and a taxi", ["truck", "bus", "car"]),
        ("knives, mice, geese, calves", ["knife", "mouse", "bird", "cow"]),
        ("He looks at his phone, a television and a sofa", ["cell phone", "tv", "couch"]),
        ("traffic-lights at dawn", ["traffic light"]),
        ("wine glasses on the dining table", ["wine glass", "dining table"]),
        ("teddy bears on a bed", ["teddy bear", "bed"]),
        ("a hot dog stand", ["hot dog"]),
        ("people pass by on skis", ["person", "skis"]),
        ("a pair of scissors", ["scissors"]),
        ("Ein Hund l\u00e4uft", []),
        ("", []),
    ],
)
def test_whole_words_in_singular_and_plural(text: str, classes: list[str]) -> None:
    assert WORDS.named_in(text) == classes


@pytest.mark.parametrize(
    "text",
    [
        "a carpet, a catalogue, a bearing and a dogma",
        "bird's-eye view of a city",
        "a bird\u2019s eye view",
        "dog-eared pages of a man-made thing",
        "at the train station, the bus stop, the phone booth",
        "the news of the skies",
        "a street with no people, cars or dogs",
        "a room without any chair",
        "neither dogs nor cats",
    ],
)
def test_what_names_nothing_that_is_there(text: str) -> None:
    assert WORDS.named_in(text) == []


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("no dogs. A cat", ["cat"]),
        ("without cars but with two bicycles", ["bicycle"]),
        ("a dog, no people", ["dog"]),
        ("nobody but a cat", ["cat"]),
        ("no one sees the dogs", ["dog"]),
        ("the car no longer moves, a man gets out", ["car", "person"]),
    ],
)
def test_what_is_not_there_ends_somewhere(text: str, classes: list[str]) -> None:
    assert WORDS.named_in(text) == classes


def test_a_tag_names_a_class_as_a_whole() -> None:
    tags = ["Dogs", "traffic_light", "orange", "remote", "tvmonitor", "people", "Sofas", "skis"]
    assert [WORDS.class_of(tag) for tag in tags] == [
        *("dog", "traffic light", "orange", "remote", "tv", "person", "couch", "skis")
    ]
    assert [WORDS.class_of(tag) for tag in ("red car", "night", "", "-", "dogma")] == [None] * 5


def test_a_detector_may_have_classes_of_its_own() -> None:
    own = Vocabulary(["tram", "taxi", "fire truck"])
    assert own.named_in("taxis and a tram pass fire trucks, a truck and a car") == [
        *("taxi", "tram", "fire truck", "truck", "car")
    ]
    assert WORDS.named_in("a taxi passes a tram") == ["car"]
