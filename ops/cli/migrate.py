"""visiongraph migrate: bring the stores of an earlier version to this one, before it serves."""

import asyncio

from rich.console import Console

from configs.settings import settings
from stores.open import Stores


def migrate() -> None:
    """Bring the stores to the schema of this version. Opening them does the same; this says what there was."""
    before, now = asyncio.run(_migrated())
    console = Console()
    if before == now:
        console.print(f"the documents have schema {now} already")
    else:
        console.print(f"the documents have schema {now} now" + (f", and had {before}" if before else ", and are new"))


async def _migrated() -> tuple[int, int]:
    stores = Stores.open(settings())
    try:
        return await stores.migrate()
    finally:
        await stores.close()
