"""Microsoft Presidio as a finder (extra `presidio`). Without a spaCy model: its recognisers by patterns alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from controlplane.domain.door.personal import Span
from controlplane.domain.door.privacy import PresidioOptions
from controlplane.domain.errors import InvalidInput

LONGEST_SENTENCE = 1000
"""Characters held back until a sentence ends, in which a name is told from a word."""

_SENTENCE_END = re.compile(r"[.!?]\s|\n|[。！？]")


class Presidio:
    """See `redacting.Finder`. One sentence takes some milliseconds, so a stream is held back by sentences."""

    def __init__(self, options: PresidioOptions, analyzer: Any) -> None:
        self._options = options
        self._analyzer = analyzer

    def find(self, text: str) -> Sequence[Span]:
        options = self._options
        found = self._analyzer.analyze(
            text, language=options.language, entities=list(options.entities), score_threshold=options.score
        )
        spans: list[Span] = []
        for each in sorted(found, key=lambda result: (-result.score, result.start)):
            span = Span(each.start, each.end, str(each.entity_type).lower())
            if not any(span.start < other.end and other.start < span.end for other in spans):
                spans.append(span)
        return sorted(spans)

    def held_from(self, text: str) -> int:
        ends = [found.end() for found in _SENTENCE_END.finditer(text, max(0, len(text) - LONGEST_SENTENCE))]
        return ends[-1] if ends else max(0, len(text) - LONGEST_SENTENCE)


@cache
def presidio(options: PresidioOptions) -> Presidio:
    """Return the finder of these options, made once. Raises InvalidInput where Presidio or the model is missing."""
    try:
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError as error:
        raise InvalidInput(
            "Presidio cannot be used", why="it is not installed", allowed="pip install fleetune[presidio]"
        ) from error
    import spacy
    import tldextract

    # Presidio's recogniser of addresses would ask the internet for a newer list of top-level domains, at a request.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())

    class Loaded(SpacyNlpEngine):  # type: ignore[misc]  # an extra: without types here
        """An engine of models that are loaded already: nothing is ever downloaded."""

        def __init__(self, nlp: Any) -> None:
            super().__init__()
            self.nlp = {options.language: nlp}

        def load(self) -> None:
            return

    try:
        nlp = spacy.load(options.spacy_model) if options.spacy_model else spacy.blank(options.language)
    except (OSError, ImportError) as error:
        raise InvalidInput(
            f"the spaCy model {options.spacy_model or options.language} cannot be used", why="it is not installed"
        ) from error
    return Presidio(options, AnalyzerEngine(nlp_engine=Loaded(nlp), supported_languages=[options.language]))
