"""Still images: encoded bytes to RGB pixels as a viewer shows them, whatever camera, browser or editor wrote them."""

from vision.images.decode import ACCEPTED, FORMATS, Facts, StillImage, decode, examine, opened
from vision.images.profiles import Pixels

__all__ = ["ACCEPTED", "FORMATS", "Facts", "Pixels", "StillImage", "decode", "examine", "opened"]
