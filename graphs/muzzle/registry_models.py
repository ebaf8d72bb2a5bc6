"""Requests and answers of the registry of animals, which goes beyond the contract."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from graphs.muzzle.criteria import CriterionResult
from graphs.muzzle.examples import PHOTO

AnimalId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]


class EnrolRequest(BaseModel):
    """An animal and photos of it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"animal_id": "DE-0123456789", "photos": [PHOTO, PHOTO, PHOTO]}]}
    )
    animal_id: AnimalId = Field(description="Your id of the animal: letters, digits and . _ : -")
    photos: list[str] = Field(
        min_length=3, max_length=12, description="3 to 12 base64-encoded JPEG or PNG images of its muzzle"
    )


class Candidate(BaseModel):
    """An enrolled animal and how near it is."""

    animal_id: str
    cosine_similarity: float = Field(description="Probe and template; 0.0 to 1.0, higher is more alike")
    euclidean_distance: float = Field(description="Probe and template; 0.0 to 2.0, lower is more alike")


class AnimalModel(BaseModel):
    """An enrolled animal."""

    animal_id: str
    photos: int = Field(description="How many reference photos it was enrolled with; the photos are not kept")
    mutual_similarity: float = Field(description="Mean cosine of all pairs of them")
    model_version: str = Field(description="What made its codes; other models do not find it")
    model_ids: list[int]
    created_at: datetime


class EnrolResponse(BaseModel):
    """The enrolled animal; ``similar`` are others that its photos match as well: perhaps it is enrolled twice."""

    animal: AnimalModel
    similar: list[Candidate]


class DeletedAnimal(BaseModel):
    """An animal that is enrolled no more."""

    animal_id: str
    deleted: Literal[True] = True


class IdentifyRequest(BaseModel):
    """One photo of an unknown animal."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"photo": PHOTO, "top_k": 3}]})
    photo: str = Field(description="A single base64-encoded JPEG or PNG image of a muzzle")
    top_k: int = Field(default=5, ge=1, le=50, description="How many candidates to tell")


class IdentifyDecision(BaseModel):
    """Who it is."""

    verdict: Literal["IDENTIFIED", "UNKNOWN", "INVALID_INPUT"] = Field(
        description="IDENTIFIED when all criteria pass; INVALID_INPUT when the photo shows no muzzle; otherwise UNKNOWN"
    )
    animal_id: str | None = Field(description="Null unless IDENTIFIED")
    score: float = Field(description="Cosine similarity to the best candidate, 0.0 to 1.0; 0 without any")
    confidence: float = Field(description="As of /predict, of the distance to the best candidate")
    confidence_label: str = Field(description="As of /predict")
    margin: float = Field(description="Score less that of the next candidate; the score itself without one")
    explanation: str


class IdentifySummary(BaseModel):
    """Why: cosine_similarity, euclidean_distance, margin, domain_check."""

    criteria: list[CriterionResult]


class IdentifyResponse(BaseModel):
    """Answer of /identify."""

    decision: IdentifyDecision
    summary: IdentifySummary
    candidates: list[Candidate] = Field(description="Best first")
    searched: int = Field(description="Animals enrolled by the present models")
    outdated: int = Field(description="Animals enrolled by other models, which were not searched: enrol them again")
