"""Everything the stages can tell of one picture."""

from deployments.forensics.signal import SIGNAL, Table
from deployments.forensics.visual import VISUAL, Visual
from deployments.people.faces import FACES
from deployments.serving.stage import SharedImage, StageRef
from graphs.authenticity.findings import Absent, PictureFindings, found
from graphs.web.context import Context, task_group
from vision.errors import ModelNotLoaded, StageUnavailable
from vision.faces.face import Face

FaceDetector = StageRef[SharedImage, tuple[Face, ...]]
NO_FACE = "there is no face, and the visual model judges faces only"
UNSEEN = "no face is large and sharp enough for the visual model"


async def look(
    context: Context, image: SharedImage, table: Table | None, *, detector: FaceDetector = FACES
) -> PictureFindings:
    """Faces, then the visual model on them; the forensic measures beside that. ``table``: of the JPEG it came in."""

    async def seen() -> tuple[tuple[Face, ...], Visual | Absent]:
        try:
            faces = await context.stage(detector)(image)
        except (ModelNotLoaded, StageUnavailable) as error:
            return (), Absent(error.message, fault=True)
        visual = await found(context.stage(VISUAL)((image, faces)))
        if isinstance(visual, Visual) and all(probability is None for probability in visual.probabilities):
            visual = Absent(UNSEEN if faces else NO_FACE, fault=False)
        return faces, visual

    async with task_group() as group:
        visual_task = group.create_task(seen())
        signal_task = group.create_task(found(context.stage(SIGNAL)((image, table))))
    faces, visual = visual_task.result()
    return PictureFindings(faces, visual, signal_task.result())
