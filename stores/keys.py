"""API keys: who may call, known by digests alone; and the secret that signs links."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

from configs.quotas import Quota

PREFIX: Final = "vg"
"""What every key begins with, so that scanners for leaked secrets know one."""
RateClass = Literal["standard", "high", "unlimited"]
SIGNING_BYTES: Final = 32
LINKS: Final = "links"
"""Under which the secret that signs them is stored."""


@dataclass(frozen=True, slots=True)
class KeySecret:
    """Digest of one secret of a key; ``expires_at``: None for as long as the key lives."""

    digest: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key: ``key_id`` is public and stays when its secret is rotated, ``name`` is for people.

    ``scopes`` are what it may do, ``rate`` how often, ``labels`` those of the files that it is held to, none for all.
    ``quota`` is how much, where that differs from its rate class. It has one secret, and for a while two after a
    rotation.
    """

    key_id: str
    name: str
    scopes: tuple[str, ...]
    secrets: tuple[KeySecret, ...]
    created_at: datetime
    rate: RateClass = "standard"
    labels: tuple[str, ...] = ()
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    quota: Quota = field(default_factory=dict)

    def lives(self, now: datetime) -> bool:
        """Return whether it was not revoked and has not expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def opens(self, token: bytes, now: datetime) -> bool:
        """Return whether a token is this key."""
        digest = digest_of(token)
        valid = [each for each in self.secrets if each.expires_at is None or now < each.expires_at]
        # All are compared: the time it takes says nothing about any of them.
        return self.lives(now) and sum(hmac.compare_digest(digest, each.digest) for each in valid) > 0


class Keys(Protocol):
    """Keys; every write that returned is durable."""

    async def insert(self, key: ApiKey) -> bool:
        """Store a new key; False, changing nothing, if its id is taken."""
        ...

    async def get_all(self) -> list[ApiKey]:
        """Return all keys, also those that were revoked or have expired, oldest first."""
        ...

    async def revoke(self, key_id: str, moment: datetime) -> bool:
        """Revoke a key for good; False if there is none that is not revoked yet."""
        ...

    async def set_secrets(self, key_id: str, secrets: Sequence[KeySecret]) -> bool:
        """Replace the secrets of a key; False if there is none that is not revoked."""
        ...

    async def set_limits(self, key_id: str, rate: RateClass, quota: Quota) -> bool:
        """Replace how often and how much a key may; False if there is none that is not revoked."""
        ...

    async def signing_secret(self) -> bytes:
        """Return the secret that signs links, the same for all processes; made at the first call."""
        ...


def digest_of(token: bytes) -> str:
    """Return the SHA-256 of a token in hex; a token has 256 random bits, so it needs no slow hash."""
    return hashlib.sha256(token).hexdigest()


def key_id_of(token: bytes) -> str | None:
    """Return which key a token claims to be, None if it is none of ours."""
    prefix, _, rest = token.partition(b"_")
    key_id, separator, _ = rest.partition(b"_")
    return key_id.decode("latin-1") if prefix == PREFIX.encode() and separator else None


def new_token(key_id: str) -> tuple[str, KeySecret]:
    """Return a new token of a key, to be shown once, and its secret as it is stored."""
    token = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    return token, KeySecret(digest_of(token.encode()))


def new_key(
    name: str,
    scopes: Iterable[str],
    *,
    rate: RateClass = "standard",
    labels: Iterable[str] = (),
    expires_at: datetime | None = None,
    quota: Quota | None = None,
) -> tuple[str, ApiKey]:
    """Return the token of a new key, and the key as it is stored."""
    key_id = secrets.token_hex(6)
    token, secret = new_token(key_id)
    made = ApiKey(key_id, name, tuple(scopes), (secret,), datetime.now(UTC), rate, tuple(labels), expires_at)
    return token, replace(made, quota=quota or {})
