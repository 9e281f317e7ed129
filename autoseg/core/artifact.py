"""What every JSON artefact has in common: frozen, strict, numbered."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator


class Frozen(BaseModel):
    """A value that goes into JSON: immutable, unknown keys and NaN refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Artifact(Frozen):
    """A JSON file of its own, with a format number.

    A file of an older format is migrated when it is read, one of a newer format refused.
    """

    FORMAT: ClassVar[int] = 1
    format: int = 1

    @model_validator(mode="after")
    def _is_current(self) -> Self:
        if self.format != self.FORMAT:
            raise ValueError(
                f"format {self.format} is not the format {self.FORMAT} of this version"
            )
        return self

    @classmethod
    def migrate(cls, data: dict[str, Any]) -> dict[str, Any] | None:
        """Lift the content of an older file to the current format.

        Args:
            data: parsed JSON whose ``format`` is below ``FORMAT``.

        Returns:
            The same content in the current format; None if it holds too little for that.
        """
        return data
