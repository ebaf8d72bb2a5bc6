"""language/describe: a photo editor's review of one picture, by a vision language model of the caller's choice.

The model runs at its provider (Anthropic, OpenAI, Google and others through LiteLLM); this stage sends it the address
or the bytes of the picture, asks for JSON, and validates the reply. The scores are a model's opinion and not
calibrated: they differ between models, and between two calls of the same model.
"""

import re
import time
from importlib.metadata import version
from typing import Any, Final

from pydantic import Field

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.errors import InvalidInput
from vision.language.providers import AnswerUnusable, Providers, ProviderUnavailable
from vision.language.review import Answer, Question, opening, read_review, repair

_IMAGE_URL: Final = re.compile(r"https://[^\s/]+|data:image/(jpeg|png|webp|gif);base64,[A-Za-z0-9+/]")
_TRIES: Final = 2


class Config(StageConfig):
    """``user_config`` of language/describe; providers and max_calls_at_once are read at load."""

    max_batch_size: int = Field(default=1, ge=1, le=1, description="one question per call; calls run concurrently")
    max_calls_at_once: int = Field(default=16, ge=1, le=256, description="concurrent questions to providers")
    providers: dict[str, str] = Field(
        default_factory=lambda: {
            "anthropic": "ANTHROPIC_API_KEY",
            "gemini": "GEMINI_API_KEY",
            "openai": "OPENAI_API_KEY",
        },
        description="allowed providers, as LiteLLM names them, and the variable that holds the key of each",
    )


DESCRIBE: Final = StageRef[Question, Answer]("language/describe")


class PhotoReviewer(Stage[Config, Question, Question, Answer]):
    """Question → Answer."""

    key = DESCRIBE.key
    config_class = Config

    _providers: Providers

    def load(self) -> None:
        """Raises ModelNotLoaded when no provider has a key, or one is unknown; litellm is only imported with a key."""
        self._providers = Providers(self.config.providers)
        self._providers.load()

    def batches_at_once(self) -> int:
        return self.config.max_calls_at_once

    def predict(self, item: Question) -> Answer:
        if not _IMAGE_URL.match(item.image_url):
            raise InvalidInput("image_url must be an https:// address, or data:image/jpeg, png, webp or gif in base64.")
        provider, name = self._providers.split(item.model)
        until = time.monotonic() + item.timeout_s
        messages = opening(item, with_schema=not self._providers.takes_schema(provider, name))
        tokens, fault, cut_off = 0, "", False
        for _ in range(_TRIES):
            left = until - time.monotonic()
            if left <= 0:
                raise ProviderUnavailable(f"{provider} did not correct its answer in time; try again.")
            reply = self._providers.complete(provider, name, messages, max_tokens=item.max_tokens, timeout_s=left)
            tokens += reply.tokens
            cut_off = reply.cut_off
            try:
                return Answer(read_review(reply.text), reply.model, tokens)
            except ValueError as error:
                fault = f"it was cut off after {item.max_tokens} tokens; be briefer" if cut_off else str(error)
                messages = [*messages, *repair(reply.text, fault)]
        advice = "ask with more max_tokens" if cut_off else "try again, or ask another model"
        raise AnswerUnusable(f"{name} gave no usable review in {_TRIES} tries ({fault}); {advice}.")

    def info(self) -> dict[str, Any]:
        return {
            "method": "review by a vision language model at its provider, in JSON, checked",
            "model": "as asked for",
            "version": f"litellm {version('litellm')}",
            "providers": {provider: bool(self._providers.key_of(provider)) for provider in self.config.providers},
            "score": "overall_score 1 to 10, higher is better; a model's opinion, not calibrated",
            "accuracy": "not measured; it is that of the model asked for",
            "licence": "the terms of the provider",
        }
