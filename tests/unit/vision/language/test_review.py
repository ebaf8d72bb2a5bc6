"""The review that a model gives: its schema, and what is no review."""

import json
import pickle
from typing import Any

import pytest

from tests.unit.deployments.language.llm_provider import GOOD, REVIEW
from vision.language.review import Answer, read_review, review_schema


def test_the_schema_asks_for_every_field_and_no_other() -> None:
    schema = review_schema()
    assert schema["required"] == list(REVIEW)
    assert schema["additionalProperties"] is False
    assert "maximum" not in json.dumps(schema)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"overall_score": 0}, "overall_score"),
        ({"overall_score": 7.5}, "overall_score"),
        ({"overall_score": None}, "overall_score"),
        ({"summary": " "}, "summary"),
        ({"highlights": "sharp"}, "highlights"),
        ({"issues": [""]}, r"issues\.0"),
    ],
)
def test_faults_are_named(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=f"^{fault}: "):
        read_review(json.dumps(REVIEW | change))


def test_a_blank_reason_is_none() -> None:
    assert read_review(json.dumps(REVIEW | {"discard_reason": " "})).discard_reason is None
    assert read_review(json.dumps(REVIEW | {"discard_reason": " blurred "})).discard_reason == "blurred"
    without = {name: value for name, value in REVIEW.items() if name not in ("discard_reason", "best_in_group")}
    assert read_review(json.dumps(without)).best_in_group is None


def test_an_answer_survives_the_way_between_processes() -> None:
    answer = Answer(read_review(GOOD), "gpt-4o", 42)
    assert pickle.loads(pickle.dumps(answer)) == answer
