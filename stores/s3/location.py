"""``s3://bucket/prefix?endpoint_url=…&region=…``: an S3 store, and a boto3 client for it or its kin.

Credentials come from the usual AWS chain and nowhere else.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ATTEMPTS = 3, 10, 2
"""A store that hangs is given up after about 21 s, the pause between attempts included."""
CONNECTIONS: Final = 24


@dataclass(frozen=True, slots=True)
class S3Location:
    """``endpoint_url`` is empty for AWS itself, ``region`` for that of the environment."""

    bucket: str
    prefix: str = ""
    endpoint_url: str = ""
    region: str = ""
    create: bool = False

    @classmethod
    def parse(cls, url: str) -> "S3Location":
        """Parse a URL. Raises ValueError if it has no bucket, carries credentials, or has an unknown parameter."""
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

    def client(self, connections: int = CONNECTIONS) -> "S3Client":
        """Return a new client that keeps so many connections open at most."""
        import boto3  # half a second, and LanceDB needs the location alone
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url or None,
            region_name=self.region or None,
            config=Config(
                signature_version="s3v4",
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                max_pool_connections=connections,
                s3={"addressing_style": "path" if self.endpoint_url else "auto"},
                # Servers other than AWS often refuse the newer trailing checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
