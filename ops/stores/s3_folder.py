"""Objects of anybody's bucket, to be read: keys may be of any form there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from ops.stores.documents import StoreError
from ops.stores.s3_client import client_of
from ops.stores.s3_url import S3Location


class S3Folder:
    """``s3://bucket/prefix?endpoint_url=…&region=…``; for code that has a thread of its own.

    :raises ValueError: the URL is not of that form.
    """

    def __init__(self, url: str) -> None:
        self._location = S3Location.parse(url)
        self._client = client_of(self._location)

    def keys(self) -> Iterator[str]:
        """All keys below the prefix, in order. Raises StoreError."""
        bucket, prefix = self._location.bucket, self._location.prefix
        with self._translated():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                # A prefix is a folder or a whole key, so films/ does not take films-of-others/ too.
                found = (each["Key"] for each in page.get("Contents", []))
                yield from (key for key in found if not prefix or key == prefix or key.startswith(f"{prefix}/"))

    def open(self, key: str) -> BinaryIO:
        """The bytes of an object, in a row; close it. Raises StoreError."""
        with self._translated():
            return cast(BinaryIO, self._client.get_object(Bucket=self._location.bucket, Key=key)["Body"])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise StoreError(f"s3 {self._location.bucket}: {error.operation_name} gave {code}") from error
        except (BotoCoreError, Boto3Error, OSError) as error:
            raise StoreError(f"s3 {self._location.bucket}: {type(error).__name__}") from error
