"""Requests and responses of the photo API, as ``photo-api-fields.md`` names them, and the labels of scores."""

from functools import partial
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, StringConstraints, model_validator

from graphs.web.parts import BASED_ON, UNAVAILABLE
from graphs.web.schemas import WHOLE, Flag, Number
from vision.language.review import Review
from vision.quality.content import Content
from vision.quality.exposure import Verdict

Label = Literal["high", "medium", "low"]

HIGH_BRISQUE: Final = 25.0
MEDIUM_BRISQUE: Final = 50.0
HIGH_TECHNICAL: Final = 6.0
MEDIUM_TECHNICAL: Final = 4.5
HIGH_AESTHETIC: Final = 6.5
MEDIUM_AESTHETIC: Final = 5.0


def overall_quality(brisque: float | None, technical: float | None, exposure: Verdict = "normal") -> Label:
    """Label a picture by BRISQUE (0-100, lower is better) and NIMA's mean technical rating (1-10); the worse counts.

    A score that is not there counts nothing. Neither of them sees whether there was enough light, or too much: a
    picture of such an exposure is labelled one lower.
    """
    label = _label(brisque, technical)
    return label if exposure == "normal" else "medium" if label == "high" else "low"


def _label(brisque: float | None, technical: float | None) -> Label:
    if (brisque is None or brisque < HIGH_BRISQUE) and (technical is None or technical >= HIGH_TECHNICAL):
        return "high"
    if (brisque is None or brisque < MEDIUM_BRISQUE) and (technical is None or technical >= MEDIUM_TECHNICAL):
        return "medium"
    return "low"


def aesthetic_label(aesthetic: float) -> Label:
    """Label a picture by NIMA's mean aesthetic rating, 1-10."""
    if aesthetic >= HIGH_AESTHETIC:
        return "high"
    return "medium" if aesthetic >= MEDIUM_AESTHETIC else "low"


API_VERSION = "1.0"
MAX_IMAGES = 1000
"""Read of one request, whatever MAX_BATCH_SIZE says."""
MAX_EMBEDDINGS = 5000
"""Vectors that are all alike have as many neighbours each, and all of these are held at once: 200 MB."""

ImageId = Annotated[str, StringConstraints(max_length=128)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=8192)]
Decimals = AfterValidator(partial(round, ndigits=4))
"""Scores are told with four decimals; further ones are noise of the models."""
Score = Annotated[float, Decimals]
Percentage = Annotated[float, Field(ge=0, le=100), Decimals]
Rating = Annotated[float, Field(ge=1, le=10), Decimals]

URL = "https://example.com/photos/beach.jpg"


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


class PhotoError(BaseModel):
    """Body of every error of the photo API; ``detail`` only where there is more to say."""

    model_config = _example(error="image_fetch_error", message="example.com did not answer within 15 s; try again.")
    error: str
    message: str
    detail: Any = None


class ImageInput(BaseModel):
    """One picture, by address or as bytes."""

    model_config = _example(url=URL, image_id="beach")
    url: Url | None = Field(default=None, description="http or https")
    data: str | None = Field(default=None, min_length=1, description="standard base64, without a data-URI prefix")
    image_id: ImageId | None = Field(default=None, description="comes back with the result")

    @model_validator(mode="after")
    def _one_source(self) -> "ImageInput":
        if (self.url is None) == (self.data is None):
            raise ValueError("give either url or data")
        if self.data is not None and self.data[:5].lower() == "data:":
            raise ValueError("data is plain base64: leave out the prefix up to and including 'base64,'")
        return self


class Flags(BaseModel):
    """Which parts to compute; what is switched off is null in the result.

    A part whose flag is true in the request makes the request fail where its model is missing; without the flag it is
    null then, and ``unavailable`` says why.
    """

    run_blur: Flag = True
    run_quality: Flag = Field(default=True, description="quality and aesthetic")
    run_emotion: Flag = True
    run_embedding: Flag = True
    accept_fallback: Flag | None = Field(
        default=None,
        description="whether an embedding by another model will do where CLIP is not installed, whose vectors are not "
        "comparable with CLIP's; without it VISION_ACCEPT_FALLBACK (false)",
    )

    def asks_for(self, flag: str) -> bool:
        """Return whether the request itself switches a part on."""
        return flag in self.model_fields_set and bool(getattr(self, flag))


class AnalyzeRequest(Flags):
    """One picture."""

    model_config = _example(image={"url": URL, "image_id": "beach"}, run_emotion=False)
    image: ImageInput


class BatchAnalyzeRequest(Flags):
    """Several pictures: no more than MAX_BATCH_SIZE, and as many bytes as four of the largest may have."""

    model_config = _example(images=[{"url": URL, "image_id": "beach"}, {"url": "https://example.com/photos/hut.jpg"}])
    # A fault in each of a million entries would be a million messages.
    images: Annotated[list[ImageInput], FailFast()] = Field(min_length=1, max_length=MAX_IMAGES)


class Blur(BaseModel):
    """Variance of the Laplacian: the higher, the sharper."""

    laplacian_variance: Score = Field(ge=0)
    is_blurry: bool = Field(description="the variance is below blur_threshold")
    blur_threshold: float


class Quality(BaseModel):
    """``overall_quality``: high when BRISQUE < 25 and NIMA ≥ 6; medium when < 50 and ≥ 4.5; else low.

    It is one lower where ``exposure`` is not normal, which neither of the two scores sees. A score whose model is
    missing is null, and the label rests on the other one alone, as ``based_on`` says then.
    """

    brisque_score: Percentage | None = Field(description="0-100, lower is better")
    brisque_model: str | None = Field(
        description="version of the regression; scores of different ones differ by some points"
    )
    brisque_outside: list[Content] = Field(
        default_factory=list,
        description="why brisque_score may misjudge this picture: most of it is a plain_ground of black or white, or "
        "out of focus (shallow_focus), or it has flat_colours as drawings, charts and screens have; empty for most "
        "photographs",
    )
    nima_technical_score: Rating | None = Field(description="1-10, higher is better")
    exposure: Verdict = Field(description="whether light was missing, or there was too much of it")
    exposure_score: Score = Field(ge=0, le=1, description="0-1, higher is better lit; night and snow are low too")
    overall_quality: Label
    based_on: list[Literal["brisque", "nima"]] | None = BASED_ON


class Aesthetic(BaseModel):
    """``aesthetic_label``: high from 6.5, medium from 5."""

    nima_aesthetic_score: Rating = Field(description="1-10, higher is better")
    aesthetic_label: Label


class EmotionScores(BaseModel):
    """Per cent; together 100."""

    angry: Percentage
    disgust: Percentage
    fear: Percentage
    happy: Percentage
    sad: Percentage
    surprise: Percentage
    neutral: Percentage


class Region(BaseModel):
    """Where a face is, in pixels of the upright picture and inside it."""

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    w: int = Field(ge=0)
    h: int = Field(ge=0)


class FaceEmotion(BaseModel):
    """One face."""

    dominant_emotion: str
    scores: EmotionScores
    face_confidence: Score = Field(ge=0, le=1)
    region: Region


class EmotionResult(BaseModel):
    """Faces, most certain first."""

    faces_detected: int
    faces: list[FaceEmotion]


class EmbeddingResult(BaseModel):
    """CLIP's image vector, of length 1; of another model where CLIP is not installed and the request accepts one."""

    model: str = Field(description="what made it; vectors of different models are not comparable")
    dimensions: int
    vector: list[float]


class PhotoResult(BaseModel):
    """One picture. A part that was not asked for is null; ``emotion`` is null too where no face was found.

    A part is also null where its model is missing, and then named in ``unavailable``.
    """

    image_id: str | None
    source_url: str | None
    width_px: int | None = Field(description="null where the picture could not be read")
    height_px: int | None
    blur: Blur | None = None
    quality: Quality | None = None
    aesthetic: Aesthetic | None = None
    emotion: EmotionResult | None = None
    embedding: EmbeddingResult | None = None
    unavailable: dict[str, str] = UNAVAILABLE
    processing_time_ms: float
    error: str | None = Field(default=None, description="in a batch: why this picture has no result, as code: message")


class AnalyzeAnswer(BaseModel):
    """The result of one picture."""

    api_version: str
    result: PhotoResult


class BatchAnalyzeAnswer(BaseModel):
    """Results in the order of the request."""

    api_version: str
    total: int
    succeeded: int
    failed: int
    results: list[PhotoResult]
    total_processing_time_ms: float


class ClusterRequest(BaseModel):
    """Vectors and their names, in the same order; 5,000 vectors of 512 numbers fit into a request."""

    model_config = _example(
        embeddings=[[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.0, 0.1, 0.9]], image_ids=["p1", "p2", "p3"], eps=0.35
    )
    # Looked at number by number elsewhere, in a thread.
    embeddings: list[Annotated[Any, Field(json_schema_extra={"type": "array", "items": {"type": "number"}})]] = Field(
        min_length=2, max_length=MAX_EMBEDDINGS, description="all of one dimension"
    )
    image_ids: Annotated[list[ImageId], FailFast()] = Field(min_length=2, max_length=MAX_EMBEDDINGS)
    eps: Number | None = Field(
        default=None,
        ge=0.01,
        le=2,
        description="largest cosine distance of neighbours; without it DBSCAN_EPS_DEFAULT (0.35)",
    )
    min_samples: Annotated[int, Field(ge=1, le=50), WHOLE] | None = Field(
        default=None,
        description="smallest neighbourhood, the picture itself counted; without it DBSCAN_MIN_SAMPLES_DEFAULT (2)",
    )

    @model_validator(mode="after")
    def _one_id_each(self) -> "ClusterRequest":
        if len(self.embeddings) != len(self.image_ids):
            raise ValueError(f"{len(self.embeddings)} embeddings and {len(self.image_ids)} image_ids; give one id each")
        return self


class Assignment(BaseModel):
    """Where one picture belongs; ``cluster_id`` is -1 for noise."""

    image_id: str
    cluster_id: int
    is_noise: bool


class PhotoCluster(BaseModel):
    """One cluster."""

    cluster_id: int
    size: int
    image_ids: list[str]


class ClusterAnswer(BaseModel):
    """Clusters by cosine distance."""

    api_version: str
    algorithm: Literal["DBSCAN"]
    eps_used: float
    min_samples_used: int
    total_images: int
    num_clusters: int
    num_noise: int
    assignments: list[Assignment]
    clusters: list[PhotoCluster]
    processing_time_ms: float


class ReviewRequest(BaseModel):
    """A picture for a vision language model."""

    model_config = _example(image_url=URL, ref_id="photo_abc123", model="anthropic/claude-opus-4-6")
    image_url: Url = Field(description="http or https; or a stored asset, by its id or public_url")
    ref_id: ImageId | None = Field(default=None, description="comes back with the answer")
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="provider/model as LiteLLM names it; without it LLM_DEFAULT_MODEL (anthropic/claude-opus-4-6)",
    )
    custom_prompt: str | None = Field(default=None, min_length=1, max_length=8000, description="in place of our own")
    max_tokens: Annotated[int, Field(ge=100, le=2000), WHOLE] | None = Field(
        default=None, description="of the answer; without it LLM_MAX_TOKENS (500)"
    )


class ReviewAnswer(BaseModel):
    """What the model said. A model that fails makes the request fail, so ``error`` is null here."""

    ref_id: str | None
    analysis: Review
    model_used: str
    tokens_used: int = Field(description="of the question and the answer")
    processing_ms: float
    error: str | None
