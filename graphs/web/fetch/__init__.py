"""Pictures from URLs that strangers name: only from public addresses, within a time and a size."""

from graphs.web.fetch.addresses import AllowList
from graphs.web.fetch.errors import ImageFetchError
from graphs.web.fetch.fetcher import Fetcher, open_fetcher

__all__ = ["AllowList", "Fetcher", "ImageFetchError", "open_fetcher"]
