"""Calls of providers' language models through LiteLLM, and their failures as errors for the client.

Keys come only from the environment and appear in no message or log line. LiteLLM is kept quiet: it reads no files but
its own, fetches nothing at import, and its loggers are off.
"""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vision.errors import InvalidInput, ModelNotLoaded, StageError
from vision.language.review import review_schema

logger = logging.getLogger("ray.serve")

_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][\w.:@-]*(/[\w:@-][\w.:@-]*)*", re.ASCII)
_MOST_CHARACTERS: Final = 300


class ProviderKeyMissing(ModelNotLoaded):
    """The provider of the model has no key."""


class ProviderRejected(StageError):
    """The provider refused the key, its permissions or credit, or the content of the image."""

    code = "PROVIDER_REJECTED"
    status = 502


class ProviderUnavailable(StageError):
    """The provider is overloaded, failing, too slow or unreachable."""

    code = "PROVIDER_UNAVAILABLE"
    status = 503
    retryable = True


class AnswerUnusable(StageError):
    """Neither the model's answer nor its correction was a valid review."""

    code = "PROVIDER_ANSWER_UNUSABLE"
    status = 502


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer: ``text``, empty without one; ``tokens``: input and output; ``cut_off``: it reached
    max_tokens."""

    text: str
    model: str
    tokens: int
    cut_off: bool


@dataclass(frozen=True)
class Providers:
    """The configured providers; ``variables``: environment variable of the key, by LiteLLM's name of the provider."""

    variables: Mapping[str, str]

    def key_of(self, provider: str) -> str:
        """Return the key of a provider; empty when it has none."""
        return os.environ.get(self.variables[provider], "").strip()

    def split(self, model: str) -> tuple[str, str]:
        """Split ``provider/name``. Raises InvalidInput for another form, and ProviderKeyMissing without a key."""
        provider, _, name = model.partition("/")
        if provider not in self.variables or not _MODEL_NAME.fullmatch(name):
            raise InvalidInput(
                f"{model[:100]!r} is not a known model; write it as provider/name with one of the providers "
                f"{', '.join(sorted(self.variables))}."
            )
        if not self.key_of(provider):
            fix = f"set {self.variables[provider]} and restart."
            raise ProviderKeyMissing(f"There is no key for {provider}; {fix}", optional=True)
        return provider, name

    def load(self) -> None:
        """Import LiteLLM (2 s, 150 MB). Raises ModelNotLoaded without any key, or for a provider unknown to it."""
        if not any(self.key_of(provider) for provider in self.variables):
            names = ", ".join(sorted(self.variables.values()))
            raise ModelNotLoaded(f"Not configured: no provider has a key; set one of {names}.", optional=True)
        # Without these it reads .env files, and fetches price lists and headers from its repository.
        os.environ["LITELLM_MODE"] = "PRODUCTION"
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        os.environ["LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS"] = "True"
        import litellm
        from litellm.types.utils import LlmProviders

        litellm.suppress_debug_info = True
        litellm.turn_off_message_logging = True
        # For providers that take no URLs LiteLLM fetches the image itself: never from a private network.
        litellm.user_url_validation = True
        for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        unknown = sorted(set(self.variables) - {provider.value for provider in LlmProviders})
        if unknown:
            raise ModelNotLoaded(f"LiteLLM knows no provider {', '.join(unknown)}; remove it from user_config.")

    def takes_schema(self, provider: str, name: str) -> bool:
        """Return whether the model can answer in a given JSON schema."""
        import litellm

        return bool(litellm.supports_response_schema(name, provider))

    def complete(
        self, provider: str, name: str, messages: list[dict[str, Any]], *, max_tokens: int, timeout_s: float
    ) -> Reply:
        """Call the model once, without retries.

        Raises ProviderRejected, ProviderUnavailable, or InvalidInput when the provider does not accept the request.
        """
        import litellm

        form: dict[str, Any] = {}
        if self.takes_schema(provider, name):
            schema = {"name": "review", "schema": review_schema(), "strict": True}
            form["response_format"] = {"type": "json_schema", "json_schema": schema}
        key = self.key_of(provider)
        try:
            response = litellm.completion(
                model=name,
                custom_llm_provider=provider,
                api_key=key,
                messages=messages,
                max_tokens=max_tokens,
                timeout=timeout_s,
                max_retries=0,
                num_retries=0,
                drop_params=True,
                **form,
            )
        except Exception as error:  # its own classes, those of openai, and whatever its transformations run into
            raise _failure(error, provider, name, key) from None
        choice = response.choices[0] if response.choices else None
        finish = choice.finish_reason if choice else None
        if finish == "content_filter":
            raise _declined(provider)
        return Reply(
            text=(choice.message.content if choice else None) or "",
            model=response.model or name,
            tokens=int(getattr(response.usage, "total_tokens", 0)),
            cut_off=finish == "length",
        )


def _declined(provider: str) -> ProviderRejected:
    return ProviderRejected(f"{provider} declined to review this picture.")


def _failure(error: Exception, provider: str, name: str, key: str) -> StageError:
    from litellm import exceptions

    status = int(getattr(error, "status_code", None) or 500)
    logger.warning("%s failed with %d (%s)", provider, status, type(error).__name__)
    if isinstance(error, exceptions.Timeout):
        return ProviderUnavailable(f"{provider} did not answer in time; try again.")
    if isinstance(error, exceptions.ContentPolicyViolationError):
        return _declined(provider)
    if isinstance(error, exceptions.ImageFetchError):
        return InvalidInput("There is no picture at image_url that this service may fetch.")
    match status:
        case 401 | 403:
            return ProviderRejected(f"{provider} did not accept the key of this service, or it may not use {name}.")
        case 402:
            return ProviderRejected(f"{provider} asks for payment: the credit of this service's key is used up.")
        case 404:
            return InvalidInput(f"{provider} knows no model {name}.")
        case 429:
            return ProviderUnavailable(f"{provider} has limited the rate of this service; try again later.")
        case _ if 400 <= status < 500:
            return InvalidInput(f"{provider} cannot work with this request: {_reason(error, key)}")
        case _:
            return ProviderUnavailable(f"{provider} is unreachable or failing ({status}); try again.")


def _reason(error: Exception, key: str) -> str:
    """Return the provider's own explanation, without the key."""
    text = str(getattr(error, "message", error)).partition(" - ")[2]
    sentence = re.search(r'"message":\s*"((?:[^"\\]|\\.)+)"', text)
    return (sentence[1] if sentence else text).replace(key, "…").strip()[:_MOST_CHARACTERS] or "it gave no reason."
