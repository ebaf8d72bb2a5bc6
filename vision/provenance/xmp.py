"""The properties of an XMP packet that say where a file comes from; ISO 16684-1 and IPTC Photo Metadata 2025.1.

The packet is read as it comes by: no tree is built, entities and document types are refused, and values are cut.
"""

import mmap
from typing import Final

LARGEST_PACKET: Final = 2**20
LARGEST_VALUE: Final = 16 * 1024
MOST_VALUES: Final = 32
"""Of one property, as of the list of edits."""
MOST_DEPTH: Final = 64
_XMP, _EVENT = "{http://ns.adobe.com/xap/1.0/}", "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"
_EXIF, _TIFF = "{http://ns.adobe.com/exif/1.0/}", "{http://ns.adobe.com/tiff/1.0/}"
_PHOTOSHOP, _IPTC = "{http://ns.adobe.com/photoshop/1.0/}", "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
_RESOURCE: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}resource"
_NAMES: Final = {
    **{_XMP + name: name for name in ("CreatorTool", "CreateDate", "ModifyDate")},
    **{_EVENT + name: name for name in ("softwareAgent", "action")},
    **{_TIFF + name: name for name in ("Make", "Model", "Software")},
    **{_EXIF + name: name for name in ("DateTimeOriginal", "UserComment")},
    **{_PHOTOSHOP + name: name for name in ("DateCreated", "Credit")},
    **{_IPTC + name: name for name in ("AISystemUsed", "AISystemVersionUsed", "AIPromptInformation")},
    _IPTC + "DigitalSourceType": "DigitalSourceType",
    _IPTC + "DigitalSourcefileType": "DigitalSourceType",  # its name until 2010
    "{http://purl.org/dc/terms/}provenance": "provenance",
    "{http://purl.org/dc/elements/1.1/}description": "description",
    "{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC": "AIGC",
}

Properties = dict[str, list[str]]


def read_xmp(packet: bytes) -> Properties:
    """Return the values of the listed properties by name; those before the place where a packet is damaged."""
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import XMLParser

    reader = _Reader()
    parser = XMLParser(target=reader, forbid_dtd=True)
    try:
        parser.feed(packet[:LARGEST_PACKET].strip(b"\0 \t\r\n"))
        parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError):  # LookupError: of an unknown encoding
        return reader.properties
    return reader.properties


def find_packet(data: bytes | mmap.mmap) -> bytes:
    """Return the first XMP packet in a file of any format, empty without one, as its specification's scan finds it."""
    start = data.find(b"<x:xmpmeta")
    end = data.find(b"</x:xmpmeta>", start, start + LARGEST_PACKET) if start >= 0 else -1
    return data[start : end + len(b"</x:xmpmeta>")] if end >= 0 else b""


class _Reader:
    """Collects listed properties, which stand as elements, as attributes, or as lists; a target of a parser."""

    def __init__(self) -> None:
        self.properties: Properties = {}
        self._open: list[str | None] = []
        self._name: str | None = None
        self._value = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Take the start of an element; raises ValueError for a tree that is too deep."""
        if len(self._open) >= MOST_DEPTH:
            raise ValueError("too deep")
        known = _NAMES.get(tag)
        self._open.append(self._name)
        if known is not None:
            self._name = known
        self._value = ""
        for each, value in attributes.items():
            if each in _NAMES:
                self._add(_NAMES[each], value)
            elif each == _RESOURCE and known is not None:
                self._add(known, value)

    def data(self, text: str) -> None:
        """Take a part of a text."""
        if self._name is not None and len(self._value) < LARGEST_VALUE:
            self._value += text

    def end(self, tag: str) -> None:
        """Take the end of an element."""
        if self._name is not None and self._value.strip():
            self._add(self._name, self._value)
        self._value = ""
        self._name = self._open.pop()

    def close(self) -> None:
        """Take the end of the packet."""

    def _add(self, name: str, value: str) -> None:
        values = self.properties.setdefault(name, [])
        text = value.strip()[:LARGEST_VALUE]
        if text and len(values) < MOST_VALUES:
            values.append(text)
