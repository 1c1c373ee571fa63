"""A module that is first imported while a graph runs."""

from pydantic import BaseModel


class Late(BaseModel):
    text: str
