"""Why a picture could not be fetched."""

from vision.errors import StageError


class ImageFetchError(StageError):
    """The URL is not one that is fetched from, or its host gave no picture; the message says which."""

    code = "IMAGE_FETCH_ERROR"
    status = 422
