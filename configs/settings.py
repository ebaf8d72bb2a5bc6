"""Addresses, secrets and limits, read from the environment once per process.

Variables of this project start with ``VISION_``; a ``VISION_`` variable that no setting owns is a typing
mistake and is refused at start. Those that clients and operators of the APIs know under a plain name keep it.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    IPvAnyNetwork,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from configs.addresses import base_url, host_pattern, is_confidential, origin
from configs.quotas import Quota, parse_quota, quota_text

PREFIX = "VISION_"


def _items(value: Any) -> Any:
    return [item for part in value.split(",") if (item := part.strip())] if isinstance(value, str) else value


CommaSeparated = (NoDecode, BeforeValidator(_items))
Names = Annotated[tuple[str, ...], *CommaSeparated]
Numbers = Annotated[tuple[PositiveInt, ...], *CommaSeparated]
Networks = Annotated[tuple[IPvAnyNetwork, ...], *CommaSeparated]
HostPatterns = Annotated[tuple[Annotated[str, AfterValidator(host_pattern)], ...], *CommaSeparated]
Paths = Annotated[tuple[Path, ...], *CommaSeparated]
Days = Annotated[int, Field(ge=0, le=36_500)]
QuotaText = Annotated[str, AfterValidator(lambda text: quota_text(parse_quota(text)))]
Origins = Annotated[tuple[Annotated[str, AfterValidator(origin)], ...], *CommaSeparated]
DeepfaceDetector = Literal[
    "opencv", "ssd", "dlib", "mtcnn", "fastmtcnn", "retinaface", "mediapipe", "yolov8", "yunet", "centerface"
]


class Settings(BaseSettings):
    """Process settings; sizes in bytes, times in seconds. An empty variable is as good as none."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    environment: str = Field(default="development", validation_alias="ENVIRONMENT", description="as /health shows it")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = Field(
        default=None, validation_alias="LOG_LEVEL", description="in place of that of the Serve configuration"
    )
    log_json: bool | None = Field(
        default=None, validation_alias="LOG_JSON", description="JSON or text, in place of the Serve configuration"
    )

    access_log: Literal["file", "stdout", "off"] = Field(
        default="file", description="file under home; stdout: `visiongraph serve` prints its lines as well"
    )
    access_log_bytes: PositiveInt = Field(default=64 * 2**20, description="of one file of the access log")
    access_log_files: NonNegativeInt = Field(default=5, description="full ones that are kept")

    home: Path = Field(default=Path(".visiongraph"), description="state of the embedded stores")
    objects_url: str = Field(default="", description="file:///dir or s3://bucket?endpoint_url=…; empty: under home")
    documents_url: str = Field(default="", description="sqlite:///file or mongodb://…; empty: under home")
    vectors_url: str = Field(default="", description="file:///dir or s3://bucket/prefix?…; empty: under home")
    vector_index_from: NonNegativeInt = Field(
        default=20_000, description="vectors of one model from which searches use an index; 0: they never do"
    )
    cache_url: SecretStr = Field(default=SecretStr(""), description="redis://… or unix://…; empty: no cache")

    disk_reserve_bytes: NonNegativeInt = Field(
        default=256 * 2**20,
        description="kept free on the disks of embedded stores, so that deletes work; at most 1/32 of a disk",
    )

    models_dir: Path | None = Field(default=None, description="folder of weights looked at before any download")
    models_file: Path | None = Field(
        default=None, description="models of this installation, over configs/models.yaml; empty: models.yaml under home"
    )
    models_cache: Path = Field(
        default=Path("~/.cache/visiongraph"), description="downloaded weights and compiled engines"
    )
    hf_token: SecretStr = Field(default=SecretStr(""), validation_alias="HF_TOKEN")

    api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="API_KEY",
        description="comma-separated keys that may do everything, beside those of `visiongraph keys`",
    )
    open: bool = Field(
        default=False, description="whether anyone may call while there are no keys, also from other machines"
    )
    jwt_audience: str = Field(default="", description="that tokens of an issuer must name; empty: no tokens are taken")
    jwt_issuer: str = Field(default="", description="who issues them")
    jwt_jwks_url: str = Field(default="", description="https://… of its public keys, for RS256")
    jwt_secret: SecretStr = Field(default=SecretStr(""), description="shared with it, 32 characters or more, for HS256")
    rate_limit_enabled: bool = Field(default=True, validation_alias="RATE_LIMIT_ENABLED")
    rate_limit_per_minute: PositiveInt = Field(
        default=60, validation_alias="RATE_LIMIT_PER_MINUTE", description="of one client of the photo API"
    )
    rate_limit_burst: PositiveInt = Field(
        default=10, validation_alias="RATE_LIMIT_BURST", description="of those, how many may come at once"
    )
    keep_assets_days: Days = Field(
        default=0, description="after its last upload an asset is removed; 0, here and below: never"
    )
    keep_traces_days: Days = Field(
        default=0, description="after which face traces, and identities that nothing refers to, are removed"
    )
    keep_jobs_days: Days = Field(default=0, description="after which records of jobs that have ended are removed")
    keep_audit_days: Days = Field(default=0, description="after which entries of the audit trail are removed")
    keep_deliveries_days: Days = Field(
        default=7, description="after which records of deliveries to webhooks that have ended are removed"
    )
    audit: Literal["none", "writes", "all"] = Field(
        default="writes",
        description="that the audit trail records: whatever may change something; all: reads of files too",
    )
    quota_standard: QuotaText = Field(
        default="", description="of keys of the rate class standard, such as bytes=50GB,files=100000,jobs=4,videos=200"
    )
    quota_high: QuotaText = Field(default="", description="of keys of the rate class high")
    quota_unlimited: QuotaText = Field(default="", description="of keys of the rate class unlimited")
    trusted_proxies: Networks = Field(
        default=(), description="addresses or CIDRs, comma-separated, whose X-Forwarded-… headers are believed"
    )
    max_webhooks: NonNegativeInt = Field(default=20, description="that one key may have; 0: none are sent anywhere")
    webhook_timeout_s: PositiveFloat = Field(default=15.0, description="until their receivers must have answered")
    webhook_allowed_hosts: Names = Field(
        default=(), description="host names or CIDRs, comma-separated, that they are sent to though not public"
    )
    webhook_http: bool = Field(default=False, description="whether they are sent to http:// as well")
    public_url: str = Field(
        default="", description="http(s)://host[:port][/prefix] that links begin with; empty: the host of the request"
    )
    allowed_hosts: HostPatterns = Field(
        default=(), description="hosts that requests may name, comma-separated; empty: any, but no links follow it"
    )
    cors_origins: Origins = Field(
        default=(), description="origins, comma-separated, whose pages may call this service from a browser; * for all"
    )

    max_image_bytes: PositiveInt = 50 * 2**20
    max_video_bytes: PositiveInt = 4 * 2**30
    max_audio_bytes: PositiveInt = 100 * 2**20
    max_body_bytes: PositiveInt = Field(default=1 * 2**20, description="body of any route that takes no upload")
    max_image_pixels: PositiveInt = 80_000_000
    decode_bytes: PositiveInt = Field(
        default=2**30, description="memory for pictures that one process decodes at once; others wait"
    )
    max_batch_assets: PositiveInt = 100
    max_requests_at_once: PositiveInt = Field(default=512, description="requests in one gateway; more get a 429")
    max_transfers_at_once: PositiveInt = Field(
        default=512, description="bodies and streams on their way in one gateway; the slowest make room for more"
    )
    body_idle_s: PositiveFloat = Field(default=20.0, description="for which a body may stop on its way")
    body_min_bytes_per_s: PositiveInt = Field(default=1000, description="at which a body must come, but for stops")
    reader_idle_s: PositiveFloat = Field(default=120.0, description="for which a client may read nothing")
    max_uploads_at_once: PositiveInt = 16
    max_spool_bytes: PositiveInt = Field(
        default=16 * 2**30, description="of uploads of one gateway on disk that are not stored yet"
    )
    upload_keep_s: PositiveInt = Field(
        default=24 * 3600, description="how long an upload in parts is kept after the last byte that came of it"
    )
    max_open_uploads: PositiveInt = Field(default=64, description="unfinished uploads in parts of one client")
    max_open_upload_bytes: PositiveInt = Field(default=64 * 2**30, description="of their files, together")
    video_decoder: Literal["auto", "software", "nvdec"] = Field(
        default="auto", description="of films that are indexed; auto is nvdec where the process has a GPU"
    )
    index_objects: bool = Field(
        default=True,
        description="whether films are looked through for objects, which on a CPU takes longer than all the rest",
    )
    jobs_at_once: PositiveInt = Field(default=1, description="durable jobs that one worker runs at a time")
    request_timeout_s: PositiveFloat = 60.0
    presign_ttl_s: NonNegativeInt = Field(
        default=3600, description="how long links to a bucket are valid; 0: links lead to this service"
    )
    feature_cache_ttl_s: PositiveInt = 3600
    part_cache_bytes: PositiveInt = Field(
        default=4 * 2**30, description="parts of videos made for ranges, together; one takes a quarter at most"
    )
    part_cache_ttl_s: PositiveInt = Field(default=6 * 3600, description="how long they are kept")

    max_analysis_bytes: PositiveInt = Field(default=100 * 2**20, description="file handed in to be judged")
    analysis_timeout_s: PositiveFloat = Field(default=300.0, description="deadline of it, once the file is here")
    analysis_keep_days: PositiveFloat = Field(default=30.0, description="how long its answer can be had again")
    reliability_file: Path | None = Field(
        default=None, description="one's own measurements of how often verdicts are right, over those of the product"
    )
    analysis_video_backend: Literal["pyav", "decord"] = Field(
        default="pyav", description="library that decodes videos to be judged; decord reads only those safe for it"
    )
    c2pa_trust_lists: Paths = Field(
        default=(), description="PEM files, comma-separated, of certificates whose content credentials are trusted"
    )

    max_batch_size: PositiveInt = Field(
        default=20, validation_alias="MAX_BATCH_SIZE", description="pictures in one request of the photo API"
    )
    max_image_size_bytes: PositiveInt = Field(
        default=30 * 2**20, validation_alias="MAX_IMAGE_SIZE_BYTES", description="picture of the photo API"
    )
    max_image_fetch_timeout_seconds: PositiveFloat = Field(
        default=15.0, validation_alias="MAX_IMAGE_FETCH_TIMEOUT_SECONDS", description="redirects included"
    )
    fetch_allowed_hosts: Names = Field(
        default=(), description="host names or CIDRs, comma-separated, fetched from though they are not public"
    )
    fetch_ports: Numbers = Field(default=(80, 443), description="ports, comma-separated, that pictures may come from")
    dbscan_eps_default: float = Field(default=0.35, ge=0.01, le=2, validation_alias="DBSCAN_EPS_DEFAULT")
    dbscan_min_samples_default: int = Field(default=2, ge=1, le=50, validation_alias="DBSCAN_MIN_SAMPLES_DEFAULT")
    clip_model_name: str = Field(
        default="openai/clip-vit-base-patch32",
        validation_alias="CLIP_MODEL_NAME",
        description="of embeddings: a CLIP of models.yaml, by its name there or that of its hub repository",
    )
    deepface_detector: DeepfaceDetector = Field(
        default="opencv", validation_alias="DEEPFACE_DETECTOR", description="each of these means people/faces here"
    )
    accept_fallback: bool = Field(
        default=False, description="embeddings by another model than CLIP, for requests that do not say"
    )
    llm_default_model: str = Field(default="anthropic/claude-opus-4-6", validation_alias="LLM_DEFAULT_MODEL")
    llm_max_tokens: int = Field(default=500, ge=100, le=2000, validation_alias="LLM_MAX_TOKENS")

    max_muzzle_photo_bytes: PositiveInt = Field(default=10 * 2**20, description="photo of the muzzle API")
    predict_cosine_threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        validation_alias="PREDICT_COSINE_THRESHOLD",
        description="this and the next two: empty for what trained models were calibrated to, or 0.62, 0.85, 0.40",
    )
    predict_euclidean_max: float | None = Field(default=None, gt=0, le=2, validation_alias="PREDICT_EUCLIDEAN_MAX")
    predict_mutual_min: float | None = Field(default=None, ge=0, le=1, validation_alias="PREDICT_MUTUAL_MIN")
    predict_print_min: PositiveInt | None = Field(
        default=None,
        validation_alias="PREDICT_PRINT_MIN",
        description="places of two prints that must agree; empty for what was calibrated, 8",
    )
    domain_variance_min: float = Field(default=0.005, ge=0, le=1, validation_alias="DOMAIN_VARIANCE_MIN")
    domain_consistency_max: float = Field(default=0.20, ge=-1, le=1, validation_alias="DOMAIN_CONSISTENCY_MAX")
    identify_margin_min: float = Field(
        default=0.05,
        ge=0,
        le=1,
        validation_alias="IDENTIFY_MARGIN_MIN",
        description="cosine that the best animal must have more than the next one",
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, level: Any) -> Any:
        return level.upper() if isinstance(level, str) else level

    @field_validator("api_key")
    @classmethod
    def _refuse_no_key(cls, given: SecretStr) -> SecretStr:
        # Commas alone would open every route to anyone who meant to close them.
        if given.get_secret_value() and not _items(given.get_secret_value()):
            raise ValueError("there is no key in it; unset it to serve without keys")
        return given

    @model_validator(mode="after")
    def _refuse_half_an_issuer(self) -> "Settings":
        secret = self.jwt_secret.get_secret_value()
        if any((self.jwt_audience, self.jwt_issuer, self.jwt_jwks_url, secret)) and not (
            self.jwt_audience and self.jwt_issuer and (self.jwt_jwks_url or secret)
        ):
            raise ValueError(
                f"tokens need {PREFIX}JWT_AUDIENCE, {PREFIX}JWT_ISSUER, and {PREFIX}JWT_JWKS_URL or {PREFIX}JWT_SECRET"
            )
        if secret and len(secret) < 32:
            raise ValueError(f"{PREFIX}JWT_SECRET has less than 32 characters")
        if self.jwt_jwks_url and not is_confidential(self.jwt_jwks_url):
            raise ValueError(f"{PREFIX}JWT_JWKS_URL is not https://…, nor of this machine")
        return self

    @field_validator("public_url")
    @classmethod
    def _is_base_url(cls, given: str) -> str:
        return base_url(given) if given else given

    @model_validator(mode="after")
    def _refuse_links_anywhere(self) -> "Settings":
        if "*" in self.allowed_hosts and not self.public_url:
            raise ValueError(
                f"{PREFIX}ALLOWED_HOSTS=* would let every request choose the host of its links; "
                f"set {PREFIX}PUBLIC_URL as well, or name the hosts"
            )
        return self

    @model_validator(mode="after")
    def _refuse_unknown_variables(self) -> "Settings":
        unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in variables())
        if unknown:
            raise ValueError(f"unknown settings in the environment: {', '.join(unknown)}")
        return self

    @property
    def api_keys(self) -> tuple[str, ...]:
        """The keys of which a request must have one; without any it needs none."""
        return tuple(_items(self.api_key.get_secret_value()))

    def quota(self, rate: Literal["standard", "high", "unlimited"]) -> Quota:
        """Return the quota of keys of a rate class that have none of their own."""
        texts = {"standard": self.quota_standard, "high": self.quota_high, "unlimited": self.quota_unlimited}
        return parse_quota(texts[rate])

    @property
    def objects(self) -> str:
        """URL of the object store."""
        return self.objects_url or f"file://{self.home.resolve()}/objects"

    @property
    def documents(self) -> str:
        """URL of the document store."""
        return self.documents_url or f"sqlite:///{self.home.resolve()}/documents.sqlite"

    @property
    def vectors(self) -> str:
        """URL of the vector store."""
        return self.vectors_url or f"file://{self.home.resolve()}/vectors"

    @property
    def local_models(self) -> Path:
        """File of the models of this installation, which need not exist."""
        return (self.models_file.expanduser() if self.models_file else self.home / "models.yaml").resolve()

    @property
    def logs(self) -> Path:
        """Folder of the access log of this machine."""
        return self.home.resolve() / "logs"

    @property
    def spool(self) -> Path:
        """Folder of uploads on their way in; on the volume of the embedded object store."""
        return self.home.resolve() / "spool"


@lru_cache
def variables() -> dict[str, str]:
    """Every environment variable that is a setting → the name of its field."""
    fields = Settings.model_fields.items()
    return {str(field.validation_alias or PREFIX + name.upper()): name for name, field in fields}


@lru_cache
def settings() -> Settings:
    """The settings of this process."""
    return Settings()
