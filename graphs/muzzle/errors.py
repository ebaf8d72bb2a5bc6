"""Errors of the registry of animals."""

from vision.errors import StageError


class AnimalNotFound(StageError):
    """An animal that was never enrolled, or was deleted."""

    code = "ANIMAL_NOT_FOUND"
    status = 404

    def __init__(self, animal_id: str) -> None:
        super().__init__(f"No animal {animal_id} is enrolled; enrol it with POST /animals.")


class AnimalExists(StageError):
    """An id that is enrolled already."""

    code = "ANIMAL_EXISTS"
    status = 409

    def __init__(self, animal_id: str) -> None:
        super().__init__(f"An animal {animal_id} is enrolled already; delete it first, or choose another id.")
