"""The route that finds shots of the library for a scene, with the reasons for each."""

import asyncio

from fastapi import APIRouter, Request

from graphs.indexing.tags import shown_tags
from graphs.shots.ranking import (
    GENRE_WEIGHT,
    KEYFRAME_WEIGHT,
    OBJECTS_WEIGHT,
    TAGS_WEIGHT,
    TONE_WEIGHT,
    CatalogueCache,
    Criteria,
    RankedShot,
    rank,
)
from graphs.shots.schemas import Reason, Recommendation, SuggestAnswer, SuggestRequest
from graphs.shots.texts import EncodedQuery, TextEncoders, shared_words, text_of
from graphs.shots.thumbnails import thumbnail_url
from graphs.shots.usages import usages_of
from graphs.web.context import Context, Timer
from stores.shots import Catalogue, Shot, labels_of


def suggestions_router(context: Context, encoders: TextEncoders, catalogues: CatalogueCache) -> APIRouter:
    """Return the route suggest-shots."""
    router = APIRouter(tags=["shots"])

    @router.post("/suggest-shots")
    async def suggest_shots(wanted: SuggestRequest, request: Request, clock: Timer) -> SuggestAnswer:
        """Find shots of the library that fit a scene, best first, each with the reasons.

        The scene's description is compared with the texts of a shot and, where CLIP serves, with its key frame; tone,
        genre and tags raise the score of shots that have them, and with `strict` leave out those that do not. So do
        objects that the description or the tags name, such as a dog, where a shot shows them; with `strict` a shot
        that shows what a tag names has that tag, and the description leaves out nothing.
        """
        query = await encoders.query(wanted.scene_description)
        catalogue = await catalogues.get(query.text_version, query.clip_version)
        criteria, best, total = await asyncio.to_thread(_ranked, wanted, query, catalogue)
        shots = await context.shots.get_shots([each.shot_id for each in best])
        matched_by, not_matched_by = _models(query, catalogue, criteria)
        return SuggestAnswer(
            scene_description=wanted.scene_description,
            emotional_tone=wanted.emotional_tone,
            genre_context=wanted.genre_context,
            desired_tags=wanted.desired_tags or [],
            recommendations=[
                _recommendation(shots[each.shot_id], each, wanted, criteria, thumbnail_url(request, each.shot_id))
                for each in best
                if each.shot_id in shots  # not deleted meanwhile
            ],
            total_found=total,
            matched_by=matched_by,
            not_matched_by=not_matched_by,
            unavailable=dict(query.missing),
            processing_time=clock.seconds,
        )

    return router


def _ranked(
    wanted: SuggestRequest, query: EncodedQuery, catalogue: Catalogue
) -> tuple[Criteria, list[RankedShot], int]:
    criteria = Criteria.of(wanted, catalogue.objects)
    return criteria, *rank(catalogue, query, criteria, wanted.limit)


def _models(query: EncodedQuery, catalogue: Catalogue, criteria: Criteria) -> tuple[list[str], list[str]]:
    matched_by, not_matched_by = [f"text: {query.text_version}"], []
    if query.missing:
        not_matched_by += [f"{part}: {reason}" for part, reason in query.missing.items()]
    elif not catalogue.has_clip.any() and len(catalogue.labels):
        not_matched_by.append(f"keyframe: no shot has a vector of its key frame by {query.clip_version}.")
    else:
        matched_by.append(f"keyframe: {query.clip_version}")
    if others := int((~catalogue.has_text).sum()):
        not_matched_by.append(f"text: {others} shots have vectors of another model; store them again to include them.")
    if criteria.objects:
        if catalogue.not_looked < len(catalogue.labels):
            matched_by.append(f"objects: {', '.join(criteria.objects)}")
        if others := catalogue.not_looked:
            not_matched_by.append(
                f"objects: {others} shots were not looked through; index their films to include them."
            )
    return matched_by, not_matched_by


def _recommendation(
    shot: Shot, ranked: RankedShot, wanted: SuggestRequest, criteria: Criteria, url: str
) -> Recommendation:
    usages, source = usages_of(shot)
    return Recommendation(
        shot_id=shot.shot_id,
        video_asset_id=shot.video_asset_id,
        start_timestamp=shot.start_timestamp,
        end_timestamp=shot.end_timestamp,
        duration=shot.duration,
        camera_movement=shot.camera_movement,
        shot_size=shot.shot_size,
        shot_angle=shot.shot_angle,
        emotional_tone=shot.emotional_tone,
        genre=shot.genre,
        tags=list(shot.tags),
        objects=None if shot.objects is None else shown_tags(shot.objects),
        usage_situations=usages,
        usage_source=source,
        scene_description=shot.scene_context,
        relevance_score=round(ranked.score, 4),
        relevance_percentage=round(100 * ranked.score, 2),
        confidence=round(ranked.ahead, 4),
        reasons=_reasons(shot, ranked, wanted, criteria),
        thumbnail_url=url,
    )


def _reasons(shot: Shot, ranked: RankedShot, wanted: SuggestRequest, criteria: Criteria) -> list[Reason]:
    """Return the parts of the score that count something; always that of the description."""
    words = shared_words(wanted.scene_description, text_of(shot))
    reasons = [
        Reason(
            part="text",
            score=round(ranked.text, 4),
            weight=1.0 if ranked.keyframe is None else 1 - KEYFRAME_WEIGHT,
            matched=words,
            explanation="The texts of the shot have a similar meaning" + (", in the same words." if words else "."),
        )
    ]
    if ranked.keyframe is not None:
        reasons.append(
            Reason(
                part="keyframe",
                score=round(ranked.keyframe, 4),
                weight=KEYFRAME_WEIGHT,
                matched=[],
                explanation="Its key frame looks like the description.",
            )
        )
    if ranked.emotional_tone:
        matched = [wanted.emotional_tone or ""]
        text = "It has the tone asked for."
        reasons.append(Reason(part="emotional_tone", score=1, weight=TONE_WEIGHT, matched=matched, explanation=text))
    if ranked.genre:
        matched, text = [wanted.genre_context or ""], "It has the genre asked for."
        reasons.append(Reason(part="genre", score=1, weight=GENRE_WEIGHT, matched=matched, explanation=text))
    if ranked.tags:
        tags = labels_of(shot).tags
        matched = [tag for tag in criteria.tags if tag in tags]
        text = f"It has {len(matched)} of the {len(criteria.tags)} tags asked for."
        score = round(ranked.tags, 4)
        reasons.append(Reason(part="tags", score=score, weight=TAGS_WEIGHT, matched=matched, explanation=text))
    seen = {tag.label: tag for tag in shot.objects or ()}
    matched = [label for label in criteria.objects if label in seen]
    if ranked.objects and matched:
        shown = ", ".join(f"{label} (confidence {seen[label].confidence:.2f})" for label in matched)
        text = f"It shows {len(matched)} of the {len(criteria.objects)} classes of objects that are named: {shown}."
        score = round(ranked.objects, 4)
        reasons.append(Reason(part="objects", score=score, weight=OBJECTS_WEIGHT, matched=matched, explanation=text))
    return reasons
