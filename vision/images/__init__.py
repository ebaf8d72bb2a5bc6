"""Still images: encoded bytes to RGB pixels as a viewer shows them, whatever camera, browser or editor wrote them."""

from vision.images.decode import ACCEPTED, FORMATS, StillImage, decode, opened
from vision.images.profiles import Pixels

__all__ = ["ACCEPTED", "FORMATS", "Pixels", "StillImage", "decode", "opened"]
