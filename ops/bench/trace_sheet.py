"""A picture of what indexing found: a row for each trace, the rows of one person together, faces in order of time."""

from pathlib import Path

import numpy as np

from ops.bench.indexed import Indexed
from vision.media.reader import VideoReader

FACE, FACES, LABEL = 96, 10, 150
"""Pixels of a face, faces in a row, pixels of its label."""
CONTEXT = 1.4


def draw(video: Path, indexed: Indexed, path: Path) -> None:
    """Write the sheet as PNG; a face in a red frame was interpolated."""
    from PIL import Image, ImageDraw

    people = list(dict.fromkeys(record.identity_uuid for record, _ in indexed.traces))
    rows = sorted(indexed.traces, key=lambda trace: (people.index(trace[0].identity_uuid), trace[0].trace_id))
    sheet = Image.new("RGB", (LABEL + FACES * FACE, max(1, len(rows)) * FACE), "white")
    pen = ImageDraw.Draw(sheet)
    wanted = sorted(
        (int(boxes.frames[place]), row, column, place)
        for row, (_, boxes) in enumerate(rows)
        for column, place in enumerate(np.linspace(0, len(boxes.frames) - 1, FACES).round().astype(int).tolist())
    )
    with VideoReader(video) as reader:
        for frame, row, column, place in wanted:
            boxes = rows[row][1]
            x, y, width, height = boxes.boxes[place].tolist()
            half = CONTEXT * max(width, height) / 2
            middle = x + width / 2, y + height / 2
            square = (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
            face = Image.fromarray(reader.frame(frame)).crop(tuple(map(round, square))).resize((FACE - 4, FACE - 4))
            if not boxes.detected[place]:
                ImageDraw.Draw(face).rectangle((0, 0, FACE - 5, FACE - 5), outline=(255, 0, 0), width=3)
            sheet.paste(face, (LABEL + column * FACE + 2, row * FACE + 2))
    for row, (record, _) in enumerate(rows):
        person = "nobody" if record.identity_uuid is None else f"person {people.index(record.identity_uuid) + 1}"
        text = f"trace {record.trace_id}\n{person}\nframes {record.first_frame}-{record.last_frame}"
        pen.text((6, row * FACE + 8), f"{text}\n{record.face_count} detections", fill="black")
        if row and rows[row - 1][0].identity_uuid != record.identity_uuid:
            pen.line((0, row * FACE, sheet.width, row * FACE), fill="black", width=2)
    sheet.save(path, optimize=True)
