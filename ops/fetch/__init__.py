"""Pictures from URLs that strangers name: only from public addresses, within a time and a size."""

from ops.fetch.addresses import AllowList
from ops.fetch.errors import ImageFetchError
from ops.fetch.fetcher import Fetcher, open_fetcher

__all__ = ["AllowList", "Fetcher", "ImageFetchError", "open_fetcher"]
