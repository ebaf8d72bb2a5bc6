"""A boto3 client for S3 and its kin; credentials come from the usual AWS chain and nowhere else."""

from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config

from stores.s3.url import S3Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ATTEMPTS = 5, 60, 3
CONNECTIONS: Final = 24


def client_of(location: S3Location, connections: int = CONNECTIONS) -> "S3Client":
    """``connections`` are kept open at most."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=location.endpoint_url or None,
        region_name=location.region or None,
        config=Config(
            signature_version="s3v4",
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            max_pool_connections=connections,
            s3={"addressing_style": "path" if location.endpoint_url else "auto"},
            # Servers other than AWS often refuse the newer trailing checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
