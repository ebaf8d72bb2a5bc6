"""Who calls, and what they may do: keys of the settings and of the store, tokens of an issuer, signed links.

A scope is ``<api>:read``, ``<api>:write``, ``read`` or ``write`` for those of every API, or ``admin``, which is all of
them and the routes that change how the service works. Neither of reading and writing is part of the other.
"""

import asyncio
import hashlib
import hmac
import logging
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from contextvars import Context, ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

import jwt

from configs.quotas import Resource, limits_of
from configs.settings import Settings
from stores.errors import StoreError
from stores.keys import ApiKey, Keys, RateClass, key_id_of
from stores.uploads import ANYONE

logger = logging.getLogger("ray.serve")

ADMIN: Final = "admin"
ANY_KEY: Final = "any"
"""In place of a scope, of routes that are about the key itself."""
FRESH_S: Final = 5.0
"""How long a key that was revoked may still open, and one that was made may not yet."""
RETRY_S: Final = 1.0
READ_S: Final = 1.0
"""How long a request waits for keys to be read again; after that those that are known decide."""
LEEWAY_S: Final = 10
"""By which the clocks of an issuer and of this service may differ."""
ISSUER_S: Final = 300.0
"""How long the keys of an issuer are believed."""
ISSUER_RETRY_S: Final = 30.0
"""Between two requests to an issuer for a key that it did not have."""
ISSUER_TIMEOUT_S: Final = 5
MAX_TOKEN_BYTES: Final = 8192
LINK: Final = ("expires", "client", "signature")
"""Parameters of the query of a signed link."""
FROM_ISSUER: Final = "jwt:"
"""What names of callers with tokens begin with."""
FROM_SETTINGS: Final = "API_KEY"
OF_ISSUER: Final = "token"
"""What callers without a key of the store are called."""
MAX_LINK_S: Final = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request; ``name`` is opaque and never a key, ``key_name`` is what people call it.

    ``labels``: of the files that it is held to, empty for all. ``asset_id``: the one file of a signed link. ``limits``:
    its quotas.
    """

    name: str
    scopes: frozenset[str]
    rate: RateClass = "standard"
    labels: frozenset[str] = frozenset()
    asset_id: str | None = None
    key_name: str = ""
    limits: Mapping[Resource, int] = field(default_factory=dict, hash=False)

    def may(self, scope: str) -> bool:
        """Return whether it has a scope."""
        return scope == ANY_KEY or bool(self.scopes & {scope, scope.rpartition(":")[2], ADMIN})


EVERYONE: Final = Caller(ANYONE, frozenset({ADMIN}), key_name="anyone")
"""Whoever calls a service without keys."""
caller: ContextVar[Caller] = ContextVar("caller", default=EVERYONE)
"""Who sent the request that is answered; ``EVERYONE`` outside of requests."""


class IssuerUnavailable(Exception):
    """The keys of the issuer of tokens cannot be had at the moment."""


class Access:
    """Tells callers by what their requests carry. Keys of the store are read again after ``FRESH_S``."""

    def __init__(self, settings: Settings, keys: Keys) -> None:
        self._settings = settings
        self._keys = keys
        self._env = {_env_digest(key.encode()): key for key in settings.api_keys}
        self._tokens = _Tokens(settings) if settings.jwt_audience else None
        self._stored: dict[str, ApiKey] | None = None
        """None before they were read first."""
        self._secret = b""
        self._fresh_until = 0.0
        self._reading: asyncio.Task[None] | None = None
        self.refuses_everyone = False
        """Whether a service without keys answers nobody, as others than its own machine could call it."""

    async def is_open(self) -> bool:
        """Return whether there are no keys of any kind, so that anyone may call. Raises StoreError."""
        if self._env or self._tokens:
            return False
        return not await self._keys_of_store()

    @property
    def seems_open(self) -> bool:
        """Whether there were no keys of any kind when they were read last, or they were not read yet."""
        return not (self._env or self._tokens or self._stored)

    async def caller(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller | None:
        """Return who sent these headers, None for nobody that is known.

        Raises StoreError and IssuerUnavailable when that cannot be said.
        """
        failure: StoreError | IssuerUnavailable | None = None
        for token in _credentials(headers):
            try:
                found = await self._caller_of(token)
            except (StoreError, IssuerUnavailable) as error:
                failure = error
            else:
                if found is not None:
                    return found
        if failure is not None:
            raise failure
        return None

    async def caller_of_link(self, query: bytes, method: str, asset_id: str | None) -> Caller | None:
        """Return who signed a link to a file and what it opens: that file, for reading. Raises StoreError."""
        if asset_id is None or method not in ("GET", "HEAD") or b"signature=" not in query:
            return None
        values = parse_qs(query.decode("latin-1"))
        if any(len(values.get(name, ())) != 1 for name in LINK):
            return None
        expires, client, signature = (values[name][0] for name in LINK)
        if not (expires.isascii() and expires.isdigit() and len(expires) < 12) or int(expires) < time.time():
            return None
        await self._keys_of_store()
        if not hmac.compare_digest(signature.encode(), self._signature(client, asset_id, expires).encode()):
            return None
        signer = await self.named(client)
        if signer is None:
            return None
        return replace(signer, asset_id=asset_id)

    async def signed(self, url: str, asset_id: str, ttl_s: int) -> tuple[str, datetime]:
        """Return the URL of a file as a link that needs no key, and until when it opens. Raises StoreError."""
        await self._keys_of_store()
        expires, client = int(time.time()) + ttl_s, caller.get().name
        values = (str(expires), client, self._signature(client, asset_id, str(expires)))
        query = urlencode(dict(zip(LINK, values, strict=True)))
        return f"{url}{'&' if '?' in url else '?'}{query}", datetime.fromtimestamp(expires, UTC)

    async def names(self) -> "Names":
        """Return the names of all callers that there can be. Raises StoreError."""
        stored = await self._keys_of_store()
        now = datetime.now(UTC)
        known = {each for each, key in stored.items() if key.lives(now)} | set(self._env)
        return Names(frozenset(known) or frozenset({ANYONE}), tokens=self._tokens is not None)

    async def _caller_of(self, token: bytes) -> Caller | None:
        if (name := _env_digest(token)) in self._env:
            return Caller(name, frozenset({ADMIN}), key_name=FROM_SETTINGS)
        if (key_id := key_id_of(token)) is not None:
            key = (await self._keys_of_store()).get(key_id)
            return self._of_key(key) if key is not None and key.opens(token, datetime.now(UTC)) else None
        if self._tokens is not None and token.count(b".") == 2:
            return await self._tokens.caller(token)
        return None

    async def named(self, client: str) -> Caller | None:
        """Return a caller by name, as far as it may still call; None for one that may not. Raises StoreError."""
        if client in self._env:
            return Caller(client, frozenset({ADMIN}), key_name=FROM_SETTINGS)
        key = (await self._keys_of_store()).get(client)
        if key is not None:
            return self._of_key(key) if key.lives(datetime.now(UTC)) else None
        if client.startswith(FROM_ISSUER) and self._tokens is not None:
            return Caller(client, frozenset({"read"}), key_name=OF_ISSUER)
        return EVERYONE if client == ANYONE and await self.is_open() else None

    def _of_key(self, key: ApiKey) -> Caller:
        limits = limits_of(key.quota, self._settings.quota(key.rate))
        return Caller(
            key.key_id, frozenset(key.scopes), key.rate, frozenset(key.labels), key_name=key.name, limits=limits
        )

    def _signature(self, client: str, asset_id: str, expires: str) -> str:
        text = "\n".join((client, asset_id, expires)).encode()
        return urlsafe_b64encode(hmac.digest(self._secret, text, "sha256")).rstrip(b"=").decode()

    async def _keys_of_store(self) -> Mapping[str, ApiKey]:
        if self._stored is None or time.monotonic() >= self._fresh_until:
            if self._reading is None or self._reading.done():
                # In a new context: Serve cancels what a request started when its client leaves.
                self._reading = asyncio.create_task(self._read(), context=Context())
            if self._stored is None:
                await asyncio.shield(self._reading)
            else:  # a store that is slow must not hold up everything that does without it
                await asyncio.wait([self._reading], timeout=READ_S)
        assert self._stored is not None
        return self._stored

    async def _read(self) -> None:
        self._fresh_until = time.monotonic() + RETRY_S
        try:
            stored = {key.key_id: key for key in await self._keys.get_all()}
            self._secret = self._secret or await self._keys.signing_secret()
        except StoreError as error:
            if self._stored is None:
                raise
            logger.warning("API keys cannot be read, those that are known are still valid: %s", error)
        else:
            self._stored, self._fresh_until = stored, time.monotonic() + FRESH_S


class Names:
    """A set of callers' names; where tokens of an issuer are taken it has every name that such a one can give."""

    def __init__(self, known: frozenset[str], *, tokens: bool) -> None:
        self._known, self._any_token = known, tokens

    def __contains__(self, name: object) -> bool:
        return name in self._known or (self._any_token and isinstance(name, str) and name.startswith(FROM_ISSUER))


class _Tokens:
    """Tokens of an issuer (JWT, RFC 7519): HS256 with a secret that it shares, or RS256 with keys that it publishes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._secret = settings.jwt_secret.get_secret_value()
        self._client = (
            jwt.PyJWKClient(settings.jwt_jwks_url, timeout=ISSUER_TIMEOUT_S, lifespan=ISSUER_S, cache_keys=False)
            if settings.jwt_jwks_url
            else None
        )
        self._asked_at = -ISSUER_RETRY_S

    async def caller(self, token: bytes) -> Caller | None:
        """Return whom a token names, None for one that is not valid. Raises IssuerUnavailable."""
        if len(token) > MAX_TOKEN_BYTES:
            return None
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(header)
            if key is None:
                return None
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                audience=self._settings.jwt_audience,
                issuer=self._settings.jwt_issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "sub", "aud", "iss"]},
            )
        except jwt.PyJWTError:
            return None
        given = claims.get("scope", claims.get("scp", ""))
        named = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        name = FROM_ISSUER + hashlib.blake2b(str(claims["sub"]).encode(), digest_size=16).hexdigest()
        limits = limits_of({}, self._settings.quota("standard"))
        return Caller(name, frozenset(str(each) for each in named), key_name=OF_ISSUER, limits=limits)

    async def _key(self, header: Mapping[str, Any]) -> Any:
        if header.get("alg") == "HS256":
            return self._secret or None
        if header.get("alg") != "RS256" or self._client is None:
            return None
        if (key := await self._published(header, refresh=False)) is not None:
            return key
        # The issuer may have a new key; strangers must not make this service ask it over and over.
        if time.monotonic() - self._asked_at < ISSUER_RETRY_S:
            return None
        self._asked_at = time.monotonic()
        return await self._published(header, refresh=True)

    async def _published(self, header: Mapping[str, Any], *, refresh: bool) -> Any:
        assert self._client is not None
        try:
            keys = (await asyncio.to_thread(self._client.get_jwk_set, refresh=refresh)).keys
        except jwt.PyJWTError as error:
            logger.warning("the keys of the issuer of tokens cannot be read: %s", type(error).__name__)
            raise IssuerUnavailable from error
        usable = [each for each in keys if each.key_type == "RSA" and each.public_key_use in (None, "sig")]
        wanted = [each for each in usable if each.key_id == header.get("kid")] if "kid" in header else usable
        return wanted[0].key if len(wanted) == 1 else None


def _credentials(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[bytes]:
    for name, value in headers:
        if name == b"x-api-key":
            yield value.strip()
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            yield value[7:].strip()


def _env_digest(key: bytes) -> str:
    # A name that says nothing of the key. Whoever could find another key with it could as well guess the key.
    return hashlib.blake2b(key, digest_size=16).hexdigest()
