"""forensics/provenance: where a file says that it comes from, by its content credentials and its metadata.

Credentials (C2PA) are checked by c2pa-python in a child process that may open nothing, so neither remote manifests nor
the state of a certificate is fetched. Metadata (EXIF, XMP, IPTC, texts of PNG, tags of films and sounds) are read in
bounded steps. A valid signed declaration settles where a file comes from, words without a signature are a hint, and
nothing found means that nothing is known.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from configs.settings import settings
from deployments.serving.stage import SharedImage, Stage, StageConfig, StageRef
from vision.errors import ModelNotLoaded
from vision.images import Pixels
from vision.provenance.credentials import FileBytes
from vision.provenance.findings import Provenance, examine

Item = tuple[Pixels | None, FileBytes | None, dict[str, str]]


class Config(StageConfig):
    """``user_config`` of forensics/provenance."""

    at_once: int = Field(default=2, ge=1, description="files that are examined concurrently; read at load")


PROVENANCE: Final = StageRef[tuple[SharedImage | None, SharedImage | None, dict[str, str]], Provenance](
    "forensics/provenance"
)


class ProvenanceReader(Stage[Config, Item, Item, Provenance]):
    """(Image, uint8 (H, W, 3) RGB, of a picture; the file, uint8 (n,); tags of its container) → Provenance.

    The file is None where it is no picture and holds no credentials.
    """

    key = PROVENANCE.key
    config_class = Config
    libraries = ("cv2", "defusedxml.ElementTree", "cryptography.x509")

    def load(self) -> None:
        """Raises ModelNotLoaded for a trust list that cannot be read."""
        super().load()
        self.trust, self.anchors = read_trust_lists(settings().c2pa_trust_lists)

    def batches_at_once(self) -> int:
        return self.config.at_once

    def predict(self, item: Item) -> Provenance:
        image, data, tags = item
        return examine(data, image, tags, self.trust)

    def info(self) -> dict[str, Any]:
        return {
            "method": "content credentials (C2PA 2.x) by c2pa-python; EXIF, XMP, IPTC and generators' own texts",
            "c2pa_python": version("c2pa-python"),
            "trusted_certificates": self.anchors,
            "network": "none: remote manifests and OCSP are never fetched",
            "score": "null where nothing says that the file was generated or changed, which means unknown",
        }


def read_trust_lists(paths: tuple[Path, ...]) -> tuple[str | None, int]:
    """Return the certificates of these PEM files as one text, and how many they are; (None, 0) without files.

    Raises ModelNotLoaded, with what to do, for one that cannot be read or has no certificate.
    """
    from cryptography.x509 import load_pem_x509_certificates

    texts, count = [], 0
    for path in paths:
        try:
            data = path.expanduser().read_bytes()
            count += len(load_pem_x509_certificates(data))
            texts.append(data.decode("ascii"))
        except (OSError, ValueError) as error:
            raise ModelNotLoaded(
                f"VISION_C2PA_TRUST_LISTS: {path.name} cannot be read; give a PEM file of certificates."
                f"\n{path}: {error}"
            ) from error
    return ("\n".join(texts) or None), count
