"""The error of all stores."""


class StoreError(Exception):
    """A store cannot be reached or refused the operation; the message names the store, never its secrets."""
