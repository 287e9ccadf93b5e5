"""What a service lets in and out: text that may harm the model's prompt, and personal data in answers. Options only."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from controlplane.domain.base import Value
from controlplane.domain.door.personal import Personal


class Action(StrEnum):
    """What happens to a request in which something was found."""

    OFF = "off"  # not looked for
    FLAG = "flag"  # passed on, noted in its record and its answer's header, kept by no cache
    STRIP = "strip"  # passed on without it, and noted
    REJECT = "reject"  # 400


FlagOrReject = Literal[Action.OFF, Action.FLAG, Action.REJECT]


class InjectionOptions(Value):
    """A check for prompts that try to turn the model against its instructions."""

    action: FlagOrReject = Action.OFF
    url: str | None = Field(
        default=None,
        description="A classifier as vLLM serves it: POST {model, input} to it, as to `/classify`. None: a short list "
        "of well-known phrases, which stops nobody who tries twice.",
    )
    model: str = Field(default="", description="The classifier's model.")
    label: str = Field(default="INJECTION", description="The label that means an attempt.")
    timeout_s: float = Field(default=2, gt=0)
    unchecked: FlagOrReject = Field(
        default=Action.REJECT, description="What happens when the classifier does not answer."
    )


class InputPolicy(Value):
    """What is looked for in the texts of a request."""

    scripts: Action = Field(default=Action.OFF, description="Script tags, `javascript:` links, handlers in tags.")
    invisible: Action = Field(default=Action.OFF, description="Control, direction and zero-width characters, tags.")
    special_tokens: Action = Field(default=Action.OFF, description="Text that a tokenizer reads as control tokens.")
    more_special_tokens: tuple[str, ...] = Field(default=(), description="Of this model, beside the usual families'.")
    personal: Action = Field(default=Action.OFF, description="Personal data and keys, as the built-in set knows them.")
    too_long: Action = Field(default=Action.OFF, description="A text of more than `longest_text`; strip cuts it.")
    longest_text: int = Field(default=100_000, ge=1, description="Characters of one message or prompt.")
    token_ids: FlagOrReject = Field(
        default=Action.OFF, description="Prompts of token ids: nothing can be looked for in them."
    )
    injection: InjectionOptions = InjectionOptions()

    @model_validator(mode="after")
    def _says_something(self) -> InputPolicy:
        if "" in self.more_special_tokens:
            raise ValueError("more_special_tokens holds an empty text")
        return self

    @property
    def is_on(self) -> bool:
        """Say whether anything is looked for."""
        return self != InputPolicy() and any(
            action is not Action.OFF
            for action in (
                self.scripts,
                self.invisible,
                self.special_tokens,
                self.personal,
                self.too_long,
                self.token_ids,
                self.injection.action,
            )
        )


class PresidioOptions(Value):
    """Recognise with Microsoft Presidio too (extra `presidio`): names, places and what else its recognisers know."""

    entities: tuple[str, ...] = Field(min_length=1, description="As Presidio names them: PERSON, LOCATION, US_SSN, ...")
    language: str = "en"
    spacy_model: str | None = Field(
        default=None, description="An installed spaCy model; None: none, for recognisers that work by patterns alone."
    )
    score: float = Field(default=0.5, ge=0, le=1, description="How sure it must be.")


class OutputPolicy(Value):
    """What is taken out of answers."""

    redact: tuple[Personal, ...] = Field(default=(), description="Of the built-in set: key, email, iban, card, phone.")
    presidio: PresidioOptions | None = None

    @property
    def is_on(self) -> bool:
        """Say whether anything is taken out."""
        return bool(self.redact) or self.presidio is not None


class PrivacyOptions(Value):
    """What a service lets in and out. As delivered, everything."""

    input: InputPolicy = InputPolicy()
    output: OutputPolicy = OutputPolicy()
