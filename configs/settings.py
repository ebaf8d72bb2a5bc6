"""Addresses, secrets and limits, read from the environment once per process.

Every variable of this project starts with ``VISION_``; a ``VISION_`` variable that no setting
owns is a typing mistake and is refused at start.
"""

import os
from functools import lru_cache
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "VISION_"


class Settings(BaseSettings):
    """Process settings; sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    home: Path = Field(default=Path(".visiongraph"), description="state of the embedded stores")
    objects_url: str = Field(default="", description="file:///dir or s3://bucket?endpoint_url=…; empty: under home")
    documents_url: str = Field(default="", description="sqlite:///file or mongodb://…; empty: under home")
    vectors_url: str = Field(default="", description="file:///dir or s3://bucket/prefix?…; empty: under home")
    cache_url: SecretStr = Field(default=SecretStr(""), description="redis://… or unix://…; empty: no cache")

    models_dir: Path | None = Field(default=None, description="folder of weights looked at before any download")
    models_cache: Path = Field(
        default=Path("~/.cache/visiongraph"), description="downloaded weights and compiled engines"
    )
    hf_token: SecretStr = Field(default=SecretStr(""), validation_alias="HF_TOKEN")

    max_image_bytes: PositiveInt = 50 * 2**20
    max_video_bytes: PositiveInt = 4 * 2**30
    max_audio_bytes: PositiveInt = 100 * 2**20
    max_body_bytes: PositiveInt = Field(default=1 * 2**20, description="body of any route that takes no upload")
    max_image_pixels: PositiveInt = 80_000_000
    max_batch_assets: PositiveInt = 100
    max_requests_at_once: PositiveInt = Field(default=512, description="requests in one gateway; more get a 429")
    max_uploads_at_once: PositiveInt = 16
    request_timeout_s: PositiveFloat = 60.0
    presign_ttl_s: PositiveInt = 3600
    feature_cache_ttl_s: PositiveInt = 3600

    @model_validator(mode="after")
    def _refuse_unknown_variables(self) -> "Settings":
        known = {PREFIX + name.upper() for name in type(self).model_fields}
        unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
        if unknown:
            raise ValueError(f"unknown settings in the environment: {', '.join(unknown)}")
        return self

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
    def spool(self) -> Path:
        """Folder of uploads on their way in; on the volume of the embedded object store."""
        return self.home.resolve() / "spool"


@lru_cache
def settings() -> Settings:
    """The settings of this process."""
    return Settings()
