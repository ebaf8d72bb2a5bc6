"""Classes of objects that a text in English names, such as a dog in "two dogs run along a beach".

Whole words are compared, in singular and plural, with names of COCO's classes and common words for them. A word alone
does not tell what it means, so this leaves out what is mostly something else: a colour, a point of view, a place called
after an object, and what a text says is not there. What it finds may raise a shot among others; it is no filter.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from vision.objects.classes import class_name

_COCO: Final = """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
    parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
    handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
    surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
    broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop,
    mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors,
    teddy bear, hair drier, toothbrush
"""
COCO: Final = frozenset(" ".join(name.split()) for name in _COCO.split(","))
"""The 80 classes."""
_WORDS: Final[Mapping[str, str]] = {
    "person": "adult baby boy boyfriend child crowd girl girlfriend guy human kid lady man passer-by passerby"
    " pedestrian people somebody someone teenager toddler woman",
    "bicycle": "bike",
    "car": "automobile limousine sedan suv taxi",
    "airplane": "aircraft airliner",
    "bus": "autobus minibus",
    "train": "locomotive",
    "truck": "lorry pickup",
    "boat": "canoe ferry gondola kayak sailboat ship yacht",
    "bird": "crow eagle goose gull parrot pigeon seagull sparrow swan",
    "cat": "kitten",
    "dog": "puppy",
    "horse": "foal pony",
    "sheep": "lamb",
    "cow": "calf cattle",
    "backpack": "rucksack",
    "umbrella": "parasol",
    "handbag": "purse",
    "tie": "necktie",
    "sports ball": "ball football",
    "cup": "mug",
    "couch": "settee",
    "potted plant": "houseplant",
    "dining table": "table",
    "remote": "remote-control",
    "cell phone": "phone smartphone",
}
_PLURALS: Final[Mapping[str, str]] = {
    "calves": "calf",
    "children": "child",
    "geese": "goose",
    "knives": "knife",
    "men": "man",
    "mice": "mouse",
    "passers by": "passer by",
    "women": "woman",
}
_NOT_ALONE: Final = frozenset({"orange", "remote"})
"""In a text these are mostly something else, unless there are several; a tag that is one of them is what it names."""
_OTHERWISE: Final = frozenset(
    {"bird eye", "birds eye", "bus station", "bus stop", "phone booth", "table tennis", "train station"}
)
_MOST_WORDS: Final = 3
_TOKEN: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[.;:!?]")
_POSSESSIVE: Final = re.compile(r"['’]s$")
_WITHOUT: Final = frozenset({"no", "without", "neither", "nor"})
_NOT_WITHOUT: Final = frozenset({"doubt", "longer", "matter", "one"})
"""What comes after one of these is no object: no longer, no one."""
_AGAIN: Final = frozenset({*".;:!?", "but", "except", "only", "with"})
"""What ends the part of a text that is about what is not there."""


class Vocabulary:
    """Names of classes, by which a text is searched: those of COCO and others that a detector has."""

    def __init__(self, labels: Iterable[str] = ()) -> None:
        words = {class_name(word): label for label, words in _WORDS.items() for word in words.split()}
        self._classes = words | {name: name for name in {*COCO, *labels}}

    def class_of(self, text: str) -> str | None:
        """Return the class that a whole text names, such as a tag, in singular or plural; None where it names none."""
        return next((self._classes[form] for form in _forms(text) if form in self._classes), None)

    def named_in(self, text: str) -> list[str]:
        """Return the classes that words of a text name, each once, in the order of the text."""
        tokens = [_POSSESSIVE.sub("", token) for token in _TOKEN.findall(text.casefold())]
        found: dict[str, None] = {}
        place, there = 0, True
        while place < len(tokens):
            token, after = tokens[place], tokens[place + 1 : place + 2]
            if token in _WITHOUT and not _NOT_WITHOUT.intersection(after):
                there = False
            elif token in _AGAIN:
                there = True
            length, label = self._longest(tokens, place)
            if label is not None and there:
                found[label] = None
            place += length
        return list(found)

    def _longest(self, tokens: list[str], place: int) -> tuple[int, str | None]:
        """Return how many words from a place on belong together, at least one, and the class that they name."""
        for length in range(min(_MOST_WORDS, len(tokens) - place), 0, -1):
            words = " ".join(tokens[place : place + length])
            if words in _OTHERWISE:
                return length, None
            if words not in _NOT_ALONE and (label := self.class_of(words)) is not None:
                return length, label
        return 1, None


def _forms(text: str) -> Iterable[str]:
    """Yield a name as it is, and what it may be the plural of."""
    name = class_name(text)
    yield name
    if name in _PLURALS:
        yield _PLURALS[name]
    for ending, singular in (("ies", "y"), ("es", ""), ("s", "")):
        if name.endswith(ending):
            yield class_name(name.removesuffix(ending) + singular)
