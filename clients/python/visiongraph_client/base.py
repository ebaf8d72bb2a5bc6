"""What all models of the API derive from."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """An object of the API; fields that a newer service adds are kept."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())
