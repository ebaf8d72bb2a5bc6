"""What programs that generate pictures, films and sounds write into their files about themselves.

None of it is signed, and all of it goes when a file is saved again, so its absence says nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a file: where it stands, under which name, and what it says."""

    place: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Generator:
    """A program that says that it generated a file, or a part of it; ``place`` is where it says so."""

    name: str
    place: str
    excerpt: str
    partly: bool = False


LONGEST: Final = 64 * 1024
_PROMPT: Final = re.compile(r"\bSteps: *\d+, *(Sampler|CFG scale|Schedule type|Seed)\b")
"""The line below the prompt that AUTOMATIC1111's Stable Diffusion web UI writes, and what came of it."""
_FORKS: Final = (
    (re.compile(r"\bVersion: *f\d"), "Stable Diffusion WebUI Forge"),
    (re.compile(r"\bVersion: *Fooocus", re.IGNORECASE), "Fooocus"),
    (re.compile(r"\bVersion: *ComfyUI", re.IGNORECASE), "ComfyUI"),
    (re.compile(r"\bVersion: *SD\.Next|\bApp: *SD\.Next"), "SD.Next"),
    (re.compile(r"\bCivitai resources:"), "Civitai"),
)
_ANY: Final = re.compile(r"")
_JSON: Final = r"\A\s*\{"
_NAMED: Final = (
    ("ComfyUI", re.compile(r"(?i:workflow|prompt)"), re.compile(r'"(?:class_type|last_node_id|nodes)"\s*:')),
    ("ComfyUI", _ANY, re.compile(r'\A\s*(?i:workflow|prompt)\s*:\s*\{(?=.*"(?:class_type|nodes|links)")', re.DOTALL)),
    (
        "ComfyUI",
        _ANY,
        re.compile(_JSON + r'(?=.*"(?:prompt|workflow)"\s*:)(?=.*class_type|.*last_node_id)', re.DOTALL),
    ),
    ("SwarmUI", _ANY, re.compile(r'"sui_image_params"\s*:')),
    ("InvokeAI", re.compile(r"invokeai_(?:metadata|graph|workflow)|sd-metadata"), _ANY),
    ("InvokeAI", re.compile(r"Dream"), re.compile(r"\A(?=.*-s ?\d)(?=.*-S ?\d)", re.DOTALL)),
    ("NovelAI", re.compile(r"(?i:Software|Source|Title)"), re.compile(r"(?i:NovelAI)")),
    ("Stable Diffusion", re.compile(r"(?i:Source)"), re.compile(r"(?i:Stable Diffusion)")),
    ("Fooocus", re.compile(r"fooocus_scheme"), _ANY),
    ("Easy Diffusion", re.compile(r"(?:use_)?stable_diffusion_model"), _ANY),
    ("Tensor.Art", re.compile(r"generation_data"), re.compile(r'"(?:baseModel|prompt|sampl)')),
    (
        "Midjourney",
        _ANY,
        re.compile(r"\A(?=.*--[a-z]+ )(?=.*\bJob ID: *[0-9a-f]{8}-[0-9a-f]{4}-)", re.DOTALL),
    ),
    ("Suno", _ANY, re.compile(r"(?i:\bmade (?:with|on|by) suno\b)")),
    ("Udio", _ANY, re.compile(r"(?i:\bmade (?:with|on|by) udio\b)")),
    ("Google AI", _ANY, re.compile(r"\A(?i:made with google ai)\b")),
    (
        "a diffusion program",
        _ANY,
        re.compile(_JSON + r'(?=.*"sampler\w*"\s*:)(?=.*"steps"\s*:)(?=.*"seed"\s*:)', re.DOTALL),
    ),
)
"""Program, the name of the text, and what stands in it. Patterns look for each thing once, so they take linear time."""
_PARTLY: Final = (("Google AI", re.compile(r"\Aedited with google ai\b", re.I)),)
_SOFTWARE_FIELDS: Final = frozenset(
    {"software", "creatortool", "softwareagent", "aisystemused", "encoder", "encoded_by", "creating_application"}
)
_SOFTWARE: Final = re.compile(
    r"\b(Midjourney|DALL[·•.\- ]?E|Adobe Firefly|Stable ?Diffusion|SDXL|NovelAI|ComfyUI|InvokeAI|AUTOMATIC1111|Fooocus|"
    r"SwarmUI|Draw Things|Easy Diffusion|DiffusionBee|GPT-?image|gpt-4o image|Nano Banana|Imagen [\d.]+|Veo [\d.]+|"
    r"OpenAI(?: Sora)?|Ideogram|Leonardo\.?Ai|Bing Image Creator|Image Creator from Designer|Runway(?:ML)? Gen|"
    r"ElevenLabs|Suno|Udio|Black Forest Labs|Flux\.1|Stability AI|Kling AI|Pika Labs)",
    re.IGNORECASE,
)
_LABEL: Final = re.compile(r'"Label"\s*:\s*"?([123])')
"""Of GB 45438-2025, the Chinese standard for labels of generated content: 1 is, 2 may be, 3 is suspected to be."""


def generator_of(texts: Iterable[Text]) -> Generator | None:
    """Return the program that says, in these texts, that it generated the file; None if none does."""
    partly: Generator | None = None
    for text in texts:
        value = text.value[:LONGEST]
        if name := _name_of(text, value):
            return Generator(name, text.place, value)
        for each, pattern in _PARTLY:
            if pattern.search(value):
                partly = Generator(each, text.place, value, partly=True)
    return partly


def _name_of(text: Text, value: str) -> str | None:
    if _PROMPT.search(value):
        return next((name for pattern, name in _FORKS if pattern.search(value)), "Stable Diffusion WebUI")
    for name, key, pattern in _NAMED:
        if (key is _ANY or key.fullmatch(text.name)) and pattern.search(value):
            return name
    if text.name.lower() in _SOFTWARE_FIELDS and (named := _SOFTWARE.search(value)):
        return named[0]
    if text.name.upper() == "AIGC" and (label := _LABEL.search(value)) and label[1] == "1":
        return "a program that labels it as AIGC (GB 45438-2025)"
    return None
