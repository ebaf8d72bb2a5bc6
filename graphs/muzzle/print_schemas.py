"""What responses of the muzzle API say of prints and of the quality of photos; beyond the original contract."""

from pydantic import BaseModel, Field


class PhotoCheck(BaseModel):
    """Whether one photo is good enough for its print to be compared, with advice for the next one."""

    usable: bool = Field(description="Whether nothing is wrong with it")
    reasons: list[str] = Field(
        description="What is not good enough and what to do about it, in words for the person who takes the photo"
    )
    muzzle_side: float = Field(
        description="Side of a square of the area of the muzzle's skin, in pixels of the photo shrunk to at most 512"
    )
    skin: float = Field(description="Share of the photo that shows the skin of the muzzle, 0.0 to 1.0")
    sharpness: float = Field(
        description="Contrast of grooves over that of beads on this skin; 0.5 to 1.5 when sharp, below 0.35 too blurred"
    )
    features: int = Field(description="Beads and ridges that were found on it, 0 to 1000")
    offset_right: float = Field(description="Its middle from that of the photo, -0.5 to 0.5 of the width")
    offset_down: float = Field(description="Its middle from that of the photo, -0.5 to 0.5 of the height")
    brightness: float = Field(description="Its mean grey level, 0 to 255")
    glare: float = Field(description="Share of it that is white, 0.0 to 1.0")


class PrintTransform(BaseModel):
    """The similarity transform that puts the probe's print onto the reference's."""

    scale: float = Field(description="Above 1 where the muzzle is larger in the reference")
    rotation_degrees: float = Field(description="Clockwise, -180 to 180")
    shift_right: float = Field(description="In shares of the longer side of the photo")
    shift_down: float = Field(description="In shares of the longer side of the photo")


class ReferencePrint(BaseModel):
    """How the probe's print fits onto one reference."""

    reference_index: int = Field(description="0 (first), 1 (second), or 2 (third)")
    inliers: int = Field(description="Places of the print that agree on one transform, from 0; higher is more alike")
    matches: int = Field(description="Places that look alike, whether or not their arrangement agrees")
    inlier_share: float = Field(description="inliers / matches, 0.0 to 1.0")
    transform: PrintTransform | None = Field(description="Null where nothing agrees")


class PrintVerification(BaseModel):
    """The print of the probe beside those of the references, of which the best counts."""

    inliers: int = Field(description="Of the best reference; the value of the criterion print_match")
    threshold: int = Field(description="Least inliers of a match")
    inlier_share: float = Field(description="Of the best reference, 0.0 to 1.0")
    best_reference: int = Field(description="Index of the reference that fits best")
    transform: PrintTransform | None = Field(description="Of the probe onto the best reference")
    references: list[ReferencePrint]
    reference_photos: list[PhotoCheck]
    probe_photo: PhotoCheck
    matches_png: str | None = Field(
        default=None,
        description=(
            "With ?include=matches: a base64-encoded PNG of the probe (left) and the best reference, in grey and with "
            "their light evened out, with the places that agree; otherwise null"
        ),
    )
