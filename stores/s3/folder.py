"""Objects of a foreign bucket, read-only: keys may have any form there."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from botocore.response import StreamingBody

from stores.errors import StoreError
from stores.s3.location import S3Location

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


UNREADABLE: Final = ("NoSuchKey", "AccessDenied", "InvalidObjectState")


class ObjectUnreadable(StoreError):
    """An object is gone, archived or not accessible; trying again does not help."""


class S3Folder:
    """``s3://bucket/prefix?endpoint_url=…&region=…``; its calls block.

    :raises ValueError: the URL is not of that form.
    """

    def __init__(self, url: str) -> None:
        self._location = S3Location.parse(url)
        self._client = self._location.client()

    def keys(self) -> Iterator[str]:
        """Yield all keys below the prefix, in order. Raises StoreError."""
        bucket, prefix = self._location.bucket, self._location.prefix
        with self._translated():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                # A prefix is a folder or a whole key, so films/ does not take films-of-others/ too.
                keys = (entry["Key"] for entry in page.get("Contents", []))
                yield from (key for key in keys if not prefix or key == prefix or key.startswith(f"{prefix}/"))

    def open(self, key: str) -> BinaryIO:
        """Return an object as a file to read once from start to end; close it.

        Raises ObjectUnreadable, and StoreError also at every read.
        """
        with self._translated():
            body = self._client.get_object(Bucket=self._location.bucket, Key=key)["Body"]
        return io.BufferedReader(_Body(body, self._translated))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            kind = ObjectUnreadable if code in UNREADABLE else StoreError
            raise kind(f"s3 {self._location.bucket}: {error.operation_name} gave {code}") from error
        except (BotoCoreError, Boto3Error, OSError) as error:
            raise StoreError(f"s3 {self._location.bucket}: {type(error).__name__}") from error


class _Body(io.RawIOBase):
    """A body whose connection may break at any read."""

    def __init__(self, body: StreamingBody, translated: Callable[[], AbstractContextManager[None]]) -> None:
        self._body = body
        self._translated = translated

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        with self._translated():
            piece = self._body.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._body.close()
        super().close()
