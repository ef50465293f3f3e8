"""What all groups of settings have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """A table of ``leaderjob.toml``. The docstrings of its fields are their documentation."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        hide_input_in_errors=True,  # it may be a secret, or stand beside one
    )

    def in_force(self) -> dict[str, Any]:
        """Each setting's value as it is used: where nothing is set, what follows from the others."""
        return {name: getattr(self, name) for name in type(self).model_fields}
