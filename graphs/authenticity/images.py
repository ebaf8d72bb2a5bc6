"""Analysis of images: faces and the visual model on them, forensic measures, and the stored answer."""

import asyncio
from dataclasses import replace
from typing import Any, TypeAlias

from deployments.forensics.generated import GENERATED, Generated
from deployments.forensics.signal import SIGNAL, Table
from deployments.forensics.visual import VISUAL, Visual
from deployments.people.faces import FACES
from deployments.serving.stage import SharedImage, StageRef
from graphs.authenticity.answers import image_answer
from graphs.authenticity.findings import Absent, ImageFindings, result_or_absent
from graphs.authenticity.heatmap import draw_heat_map
from graphs.authenticity.provenance import picture_provenance
from graphs.authenticity.reliability import Operation
from graphs.authenticity.results import Results
from graphs.authenticity.schemas import ImageAnswer
from graphs.authenticity.uploads import Submission
from graphs.web.context import Clock, Context, task_group
from graphs.web.images import ImageDecoder
from vision.errors import ModelNotLoaded
from vision.faces.face import Face
from vision.forensics.compression import luma_table
from vision.images import decode

FaceDetector: TypeAlias = StageRef[Any, tuple[Face, ...]]
"""Of an image, or of more than that."""

NO_FACE = "there is no face, and the visual model judges faces only"
NOT_SERVED = "this service is configured without forensics/generated"
UNSEEN = "no face is large and sharp enough for the visual model"


async def examine_image(
    context: Context, image: SharedImage, table: Table | None, *, detector: FaceDetector = FACES
) -> ImageFindings:
    """Run all stages for images on one; ``table`` is the luminance quantization table of the JPEG that it came in."""

    async def examine_faces() -> tuple[tuple[Face, ...], Visual | Absent]:
        try:
            faces = await context.stage(detector)(image)
        except ModelNotLoaded as error:
            return (), Absent.without(error)
        visual = await result_or_absent(context.stage(VISUAL)((image, faces)))
        if isinstance(visual, Visual) and all(probability is None for probability in visual.probabilities):
            visual = Absent(UNSEEN if faces else NO_FACE, fault=False)
        return faces, visual

    async def examine_whole() -> Generated | Absent:
        if GENERATED.key not in context.stages:  # a configuration that is older than the stage
            return Absent(NOT_SERVED, fault=False)
        generated = await result_or_absent(context.stage(GENERATED)(image))
        if isinstance(generated, Absent) and generated.missing:
            return replace(generated, fault=False)
        return generated

    async with task_group() as group:
        faces_task = group.create_task(examine_faces())
        signals_task = group.create_task(result_or_absent(context.stage(SIGNAL)((image, table))))
        whole_task = group.create_task(examine_whole())
    faces, visual = faces_task.result()
    return ImageFindings(faces, visual, signals_task.result(), whole_task.result())


class ImageAnalysis:
    """Decodes and analyzes images on disk, and stores the answers."""

    def __init__(self, context: Context, results: Results) -> None:
        self._context = context
        self._results = results
        self._decoder = ImageDecoder(context.settings.max_image_pixels)

    async def of(self, submission: Submission, clock: Clock, operation: Operation) -> ImageAnswer:
        """Return the answer, stored.

        Raises the errors of decoding, of overload, ModelNotLoaded without any, and FalseAlarmsUnknown.
        """
        data = await asyncio.to_thread(submission.path.read_bytes)
        limit = self._context.settings.max_image_pixels
        async with self._decoder.decoded(data) as decoded:
            table = await asyncio.to_thread(luma_table, data, limit)
            async with task_group() as group:
                findings_task = group.create_task(examine_image(self._context, decoded.image, table))
                provenance_task = group.create_task(picture_provenance(self._context, decoded.image, data))
        findings = findings_task.result()
        answer = image_answer(submission, findings, provenance_task.result(), clock, operation)
        heat_map = await asyncio.to_thread(lambda: draw_heat_map(decode(data, max_pixels=limit), findings))
        await self._results.save(answer.analysis_id, answer, heat_map)
        return answer
