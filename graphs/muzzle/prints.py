"""The prints of a request's photos: taken, compared, and put into the words of a response."""

import base64
from collections.abc import Sequence
from typing import Final

from deployments.muzzle.print import PRINT, PrintAnswer, PrintPhoto, PrintQuery
from graphs.muzzle.photos import Photo
from graphs.muzzle.print_schemas import PhotoCheck, PrintTransform, PrintVerification, ReferencePrint
from graphs.muzzle.schemas import Candidate
from graphs.web.context import Context
from stores.animals import animal_key
from vision.muzzle.ensemble import MuzzleEncoding
from vision.muzzle.prints import PrintMatch, is_print
from vision.muzzle.quality import PhotoQuality

RECHECKED: Final = 16
"""Animals nearest by their codes whose kept prints a photo is compared with."""
PLACES: Final = 4


class MuzzlePrints:
    """Calls muzzle/print for photos that have been encoded, and with prints from the registry."""

    def __init__(self, context: Context) -> None:
        self._stage = context.stage(PRINT)
        self._animals = context.animals

    async def check(self, photo: Photo, encoding: MuzzleEncoding) -> PhotoCheck:
        """Judge the quality of one photo."""
        answer = await self._stage(PrintQuery(photos=(_photo(photo, encoding),)))
        return checked(answer.qualities[0])

    async def take(self, photos: Sequence[Photo], encodings: Sequence[MuzzleEncoding]) -> PrintAnswer:
        """Return the prints of photos as they are kept, and the quality of each."""
        return await self._stage(PrintQuery(photos=_photos(photos, encodings), keep=True))

    async def compare(
        self, photos: Sequence[Photo], encodings: Sequence[MuzzleEncoding], *, picture: bool
    ) -> PrintAnswer:
        """Compare the last of the photos, the probe, with each of the others."""
        *references, probe = _photos(photos, encodings)
        return await self._stage(PrintQuery(photos=tuple(references), probe=probe, picture=picture))

    async def search(
        self, photo: Photo, encoding: MuzzleEncoding, candidates: Sequence[Candidate]
    ) -> tuple[PhotoQuality, dict[str, PrintMatch]]:
        """Return the quality of a photo, and its best match with each of the first candidates that have kept prints."""
        owners, prints = await self._kept(candidates)
        answer = await self._stage(PrintQuery(probe=_photo(photo, encoding), prints=prints))
        return answer.qualities[0], _best(owners, answer.matches)

    async def duplicates(self, prints: Sequence[bytes], candidates: Sequence[Candidate]) -> dict[str, PrintMatch]:
        """Return the best match of some of the new prints with each of the first candidates that have kept prints."""
        owners, kept = await self._kept(candidates)
        best: dict[str, PrintMatch] = {}
        for place in sorted({0, len(prints) // 2, len(prints) - 1}) if kept else []:
            answer = await self._stage(PrintQuery(probe=prints[place], prints=kept))
            for animal_id, match in _best(owners, answer.matches).items():
                best[animal_id] = max(best.get(animal_id, match), match, key=lambda each: each.inliers)
        return best

    async def _kept(self, candidates: Sequence[Candidate]) -> tuple[list[str], tuple[bytes, ...]]:
        """Return the owner of each kept print of the first candidates, and these prints."""
        ids = {animal_key(each.animal_id): each.animal_id for each in candidates[:RECHECKED]}
        prints = await self._animals.prints(ids) if ids else {}
        kept = [(ids[key], each) for key, own in prints.items() for each in own if is_print(each)]
        return [animal_id for animal_id, _ in kept], tuple(each for _, each in kept)


def _best(owners: Sequence[str], matches: Sequence[PrintMatch]) -> dict[str, PrintMatch]:
    best: dict[str, PrintMatch] = {}
    for animal_id, match in zip(owners, matches, strict=True):
        best[animal_id] = max(best.get(animal_id, match), match, key=lambda each: each.inliers)
    return best


def _photo(photo: Photo, encoding: MuzzleEncoding) -> PrintPhoto:
    return PrintPhoto(photo.data, encoding.likeness)


def _photos(photos: Sequence[Photo], encodings: Sequence[MuzzleEncoding]) -> tuple[PrintPhoto, ...]:
    return tuple(_photo(photo, encoding) for photo, encoding in zip(photos, encodings, strict=True))


def checked(quality: PhotoQuality) -> PhotoCheck:
    """Return the quality of a photo as responses have it."""
    right, down = quality.offset
    return PhotoCheck(
        usable=not quality.reasons,
        reasons=list(quality.reasons),
        muzzle_side=quality.muzzle_side,
        skin=quality.skin,
        sharpness=quality.sharpness,
        features=quality.features,
        offset_right=right,
        offset_down=down,
        brightness=quality.brightness,
        glare=quality.glare,
    )


def print_verification(answer: PrintAnswer, threshold: int) -> PrintVerification:
    """Return the comparison of a probe with its references as /predict has it."""
    references = [
        ReferencePrint(
            reference_index=index,
            inliers=each.inliers,
            matches=each.matches,
            inlier_share=round(each.share, PLACES),
            transform=_transform(each),
        )
        for index, each in enumerate(answer.matches)
    ]
    best = max(references, key=lambda each: each.inliers)
    *photos, probe = map(checked, answer.qualities)
    return PrintVerification(
        inliers=best.inliers,
        threshold=threshold,
        inlier_share=best.inlier_share,
        best_reference=best.reference_index,
        transform=best.transform,
        references=references,
        reference_photos=photos,
        probe_photo=probe,
        matches_png=None if answer.picture is None else base64.b64encode(answer.picture).decode(),
    )


def _transform(match: PrintMatch) -> PrintTransform | None:
    if match.scale is None or match.rotation is None or match.shift is None:
        return None
    right, down = match.shift
    return PrintTransform(scale=match.scale, rotation_degrees=match.rotation, shift_right=right, shift_down=down)
