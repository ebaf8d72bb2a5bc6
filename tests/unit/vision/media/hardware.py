"""NVDEC on machines without a GPU: FFmpeg's own decoders, their pictures in the layouts of the hardware."""

from collections.abc import Callable
from typing import Any

import av
import pytest

from vision.media import nvdec


def pretend(
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any], Any] = lambda picture: picture,
    opened: Callable[..., Any] | None = None,
) -> None:
    """Have readers take this machine for one with NVDEC; ``change`` makes what comes out of it of each right picture,
    and ``opened`` stands in for ``av.open`` with it."""
    open_file, planar = av.open, nvdec.planar

    def opening(*arguments: Any, hwaccel: Any = None, **options: Any) -> Any:
        return open_file(*arguments, **options) if hwaccel is None or opened is None else opened()

    def decoded(picture: Any, layout: str) -> Any:
        return planar(change(of_hardware(picture)), layout)

    monkeypatch.setattr(av, "open", opening)
    monkeypatch.setattr(nvdec, "accelerator", lambda: "nvdec")
    monkeypatch.setattr(nvdec, "is_available", lambda: True)
    monkeypatch.setattr(nvdec, "planar", decoded)


def of_hardware(picture: Any) -> Any:
    """A picture in the layout of the hardware, with all that is said of it."""
    layout = nvdec.LAYOUTS[picture.format.name]
    made = picture.reformat(format=layout, src_colorspace=5, dst_colorspace=5)
    made.colorspace = picture.colorspace
    return made
