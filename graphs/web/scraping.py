"""The metrics of all nodes on one page, for a Prometheus that reaches the API and not the agents of the nodes."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from deployments.serving.metrics import PREFIX

ANSWER_WITHIN_S: Final = 5.0
MAX_PAGE: Final = 64 * 2**20
"""Bytes of one agent's page; a service of 30 stages and 300 routes has 2 MB."""
OURS: Final = f"ray_{PREFIX}"
UP: Final = f"{OURS}node_up"


async def scraped(pages: Sequence[str]) -> bytes:
    """Return what the agents with these addresses say of this service, in the text format of Prometheus.

    ``ray_visiongraph_node_up`` is 1 for each that answered within 5 s, and 0 for each other.
    """
    async with httpx.AsyncClient(timeout=ANSWER_WITHIN_S, trust_env=False) as client:
        texts = await asyncio.gather(*(_page(client, page) for page in pages))
    return await asyncio.to_thread(_together, dict(zip(pages, texts, strict=True)))


async def _page(client: httpx.AsyncClient, address: str) -> str | None:
    """Return the lines of a page that are about this service; None where the agent gives none."""
    lines, size = [], 0
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S), client.stream("GET", address) as answer:
            if answer.status_code != httpx.codes.OK:
                return None
            async for line in answer.aiter_lines():
                size += len(line)
                if size > MAX_PAGE:
                    return None
                if line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith(OURS):
                    lines.append(line)
    except (httpx.HTTPError, TimeoutError):
        return None
    return "\n".join([*lines, ""])


class _Families(Collector):
    """Metric families that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _together(texts: dict[str, str | None]) -> bytes:
    families: dict[str, Metric] = {}
    up = GaugeMetricFamily(UP, "1 where the metrics agent of a node answers.", labels=["agent"])
    for page, text in texts.items():
        up.add_metric([httpx.URL(page).netloc.decode()], 0 if text is None else 1)
        for family in text_string_to_metric_families(text or ""):
            families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            ).samples += family.samples
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families([up, *families.values()]))
    return generate_latest(registry)
