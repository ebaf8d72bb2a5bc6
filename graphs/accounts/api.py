"""The API of accounts: what a key uses of its quotas, and the audit trail; under /api/v1."""

from typing import Final

from fastapi import APIRouter

from graphs.accounts.audit import audit_router
from graphs.accounts.usage import usage_router
from graphs.web.api import Api, RateLimit
from graphs.web.context import Context
from graphs.web.schemas import error_responses

ERRORS: Final = {
    422: "malformed request",
    429: "too many requests; Retry-After says when to come back",
    503: "the document store does not answer",
    504: "the time of the request ran out; Retry-After says when to come back",
}


def _router(context: Context) -> APIRouter:
    router = APIRouter(tags=["accounts"], responses=error_responses(ERRORS))
    router.include_router(usage_router(context))
    router.include_router(audit_router(context))
    return router


API: Final = Api(
    title="Accounts: what a key uses, and the audit trail",
    router=_router,
    prefixes=("/api/v1",),
    rate=lambda _: RateLimit("accounts", 60),
    scoped=False,
    administration=frozenset({"get_audit"}),
)
