"""visiongraph keys: make, list, show, change, rotate and revoke API keys."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from configs.quotas import Quota, limits_of, parse_quota, quota_text
from configs.settings import settings
from ops.cli.audit import duration, record
from stores.keys import ApiKey, Keys, KeySecret, RateClass, new_key, new_token
from stores.open import Stores

if TYPE_CHECKING:
    from graphs.web.quotas import Use

T = TypeVar("T")

app = typer.Typer(help="API keys: create, list, show, update, rotate, revoke.", no_args_is_help=True)
QuotaOption = Annotated[
    list[str] | None,
    typer.Option(
        "--quota",
        help="bytes=50GB, files=100000, jobs=4 (at once), videos=200 (judged a day), or =none; several times, or with "
        "commas. Default: that of its rate.",
    ),
]
SOON: Final = "a running service knows within 5 seconds"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what is to use it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="<api>:read, <api>:write, read, write or admin; several times. Default: read and write."),
    ] = None,
    expires: Annotated[timedelta | None, typer.Option(parser=duration, help="Such as 90d; default: never.")] = None,
    rate: Annotated[str, typer.Option(help="standard; high: ten times as often; unlimited.")] = "standard",
    label: Annotated[
        list[str] | None, typer.Option(help="Hold it to files that were uploaded with this label; several times.")
    ] = None,
    quota: QuotaOption = None,
) -> None:
    """Make a key and show it, once."""
    from graphs.web.api import scopes
    from graphs.web.uploads.library import LABEL

    wanted = scope or ["read", "write"]
    if unknown := sorted(set(wanted) - set(scopes())):
        raise typer.BadParameter(f"no such scope: {', '.join(unknown)}; there are {', '.join(scopes())}")
    if wrong := [each for each in label or () if not LABEL.fullmatch(each)]:
        raise typer.BadParameter(f"not a label: {', '.join(wrong)}")
    if label and "admin" in wanted:
        raise typer.BadParameter("a key that is held to labelled files cannot be one of an administrator")
    until = None if expires is None else datetime.now(UTC) + expires
    limits = _quota(quota or ())
    token, key = new_key(name, wanted, rate=_rate(rate), labels=label or (), expires_at=until, quota=limits)

    async def made(stores: Stores) -> None:
        await stores.keys.insert(key)
        await record(stores.audit, "keys create", key.key_id, name=name, scopes=wanted, quota=quota_text(limits))

    _with_stores(made)
    console = Console()
    console.print(Text(token, "bold"), soft_wrap=True)
    console.print(f"This is shown once. Key {key.key_id} ({name}): {', '.join(wanted)}; {SOON}.", soft_wrap=True)


@app.command()
def show(key: Annotated[str, typer.Argument(help="Its id, or its name.")]) -> None:
    """Show keys of an id or a name, and what they use of their quotas."""
    from graphs.web.quotas import usage_of

    async def read(stores: Stores) -> "list[tuple[ApiKey, list[Use]]]":
        named = [each for each in await stores.keys.get_all() if key in (each.key_id, each.name)]
        of_class = settings().quota
        return [
            (each, await usage_of(stores, each.key_id, limits_of(each.quota, of_class(each.rate)))) for each in named
        ]

    shown = _with_stores(read)
    if not shown:
        raise typer.BadParameter(f"there is no key {key}; `keys list` shows them")
    console, now = Console(), datetime.now(UTC)
    for each, usage in shown:
        console.print(Text.assemble((each.key_id, "bold"), f"  {each.name}  {each.rate}  ", _state(each, now)))
        table = Table("resource", "used", "limit", "begins anew", box=None)
        for use in usage:
            limit = "none" if use.limit is None else f"{use.limit:,}"
            resets_at = "" if use.resets_at is None else f"{use.resets_at:%Y-%m-%d %H:%M} UTC"
            table.add_row(use.resource, f"{use.used:,}", limit, resets_at)
        console.print(table)


@app.command()
def update(
    key_id: Annotated[str, typer.Argument(help="As `keys list` shows it.")],
    rate: Annotated[str | None, typer.Option(help="standard, high or unlimited.")] = None,
    quota: QuotaOption = None,
    default_quota: Annotated[
        bool, typer.Option("--default-quota", help="Take back its own quotas first, so that it has those of its rate.")
    ] = False,
) -> None:
    """Change how often a key may call, and its quotas; those that are not named stay."""
    given = _quota(quota or ())

    async def changed(stores: Stores) -> ApiKey | None:
        keys = stores.keys
        key = {each.key_id: each for each in await keys.get_all()}.get(key_id)
        if key is None:
            return None
        after = replace(
            key,
            rate=key.rate if rate is None else _rate(rate),
            quota={**({} if default_quota else key.quota), **given},
        )
        if not await keys.set_limits(key_id, after.rate, after.quota):
            return None
        await record(stores.audit, "keys update", key_id, rate=after.rate, quota=quota_text(after.quota))
        return after

    key = _with_stores(changed)
    if key is None:
        raise typer.BadParameter(f"there is no key {key_id} that is not revoked; `keys list` shows them")
    quotas = quota_text(key.quota) or "those of its rate"
    Console().print(f"{key_id} ({key.name}): rate {key.rate}, quotas {quotas}; {SOON}", soft_wrap=True)


@app.command("list")
def list_keys() -> None:
    """List all keys, also those that are not valid any more."""
    # The id has to be given to the other commands.
    columns = ("name", "scopes", "rate", "quota", "labels", "made", "until", "state")
    table = Table(Column("id", no_wrap=True), *columns, box=None)
    now = datetime.now(UTC)
    for key in _with_keys(lambda keys: keys.get_all()):
        until = "" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M}"
        table.add_row(
            *map(Text, (key.key_id, key.name, " ".join(key.scopes), key.rate, quota_text(key.quota))),
            Text(" ".join(key.labels)),
            *(f"{key.created_at:%Y-%m-%d}", until, _state(key, now)),
        )
    Console().print(table)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="As `keys list` shows it.")]) -> None:
    """Make a key useless for good."""

    async def revoked(stores: Stores) -> bool:
        if not await stores.keys.revoke(key_id, datetime.now(UTC)):
            return False
        await record(stores.audit, "keys revoke", key_id)
        return True

    if not _with_stores(revoked):
        raise typer.BadParameter(f"there is no key {key_id} that is not revoked yet; `keys list` shows them")
    Console().print(f"revoked {key_id}; {SOON}")


@app.command()
def rotate(
    key_id: Annotated[str, typer.Argument(help="As `keys list` shows it.")],
    grace: Annotated[
        timedelta | None, typer.Option(parser=duration, help="How long the old secret opens too, such as 24h.")
    ] = None,
) -> None:
    """Give a key a new secret and show it, once; all else of it stays, its uploads too."""
    token, secret = new_token(key_id)
    now = datetime.now(UTC)

    async def replaced(stores: Stores) -> bool:
        key = {each.key_id: each for each in await stores.keys.get_all()}.get(key_id)
        old = () if key is None or grace is None else (KeySecret(key.secrets[-1].digest, now + grace),)
        if not await stores.keys.set_secrets(key_id, [*old, secret]):
            return False
        await record(stores.audit, "keys rotate", key_id)
        return True

    if not _with_stores(replaced):
        raise typer.BadParameter(f"there is no key {key_id} that is not revoked; `keys list` shows them")
    console = Console()
    console.print(Text(token, "bold"), soft_wrap=True)
    console.print(f"This is shown once; {SOON}.")


def _with_keys(work: Callable[[Keys], Awaitable[T]]) -> T:
    """Return what work on the key store comes to. Raises StoreError."""
    return _with_stores(lambda stores: work(stores.keys))


def _with_stores(work: Callable[[Stores], Awaitable[T]]) -> T:
    async def run() -> T:
        stores = Stores.open(settings())
        try:
            return await work(stores)
        finally:
            await stores.close()

    return asyncio.run(run())


def _quota(given: Iterable[str]) -> Quota:
    try:
        return parse_quota(given)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _rate(given: str) -> RateClass:
    classes: dict[str, RateClass] = {"standard": "standard", "high": "high", "unlimited": "unlimited"}
    if given not in classes:
        raise typer.BadParameter(f"there are {', '.join(classes)}")
    return classes[given]


def _state(key: ApiKey, now: datetime) -> Text:
    if key.revoked_at is not None:
        return Text(f"revoked {key.revoked_at:%Y-%m-%d}", "red")
    return Text("valid", "green") if key.lives(now) else Text("expired", "yellow")
