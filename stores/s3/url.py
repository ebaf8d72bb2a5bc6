"""``s3://bucket/prefix?endpoint_url=…&region=…``: where an S3 store is; the environment has its keys."""

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class S3Location:
    """``endpoint_url`` is empty for AWS itself; ``region`` is empty for the one of the environment."""

    bucket: str
    prefix: str = ""
    endpoint_url: str = ""
    region: str = ""
    create: bool = False

    @classmethod
    def parse(cls, url: str) -> "S3Location":
        """:raises ValueError: the URL names no bucket, carries credentials, or has an unknown parameter."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.hostname:
            raise ValueError("expected s3://bucket?endpoint_url=…&region=…")
        if "@" in parts.netloc:
            raise ValueError("an s3:// URL carries no credentials; set AWS_ACCESS_KEY_ID and the like instead")
        query = dict(parse_qsl(parts.query))
        if unknown := sorted(set(query) - {"endpoint_url", "region", "create"}):
            raise ValueError(f"unknown parameters in the s3:// URL: {', '.join(unknown)}")
        return cls(
            bucket=parts.netloc,
            prefix=parts.path.strip("/"),
            endpoint_url=query.get("endpoint_url", ""),
            region=query.get("region", ""),
            create=query.get("create") == "1",
        )
