"""False hits of the semantic cache on the labelled set, with real embeddings: `python -m benchmarks.semantic_cache`.

Embeddings are those of WordLlama (`pip install wordllama`: 256 dimensions, its weights are in the package). Static
vectors of words: a harder case than a sentence model's, as they hardly see what a word does to its neighbours.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.semantic_pairs import Pair, pairs
from controlplane.domain.door.similar import differs

THRESHOLDS = (0.85, 0.9, 0.95, 0.98)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    labelled = pairs(given.pairs, given.seed)
    cosines = _cosines(labelled)
    print(f"{len(labelled)} pairs, seed {given.seed}: {sum(pair.same for pair in labelled)} the same question")
    print("at least  guards  hits  of the same  false hits  of hits")
    for threshold in THRESHOLDS:
        for guarded in (False, True):
            print(_row(labelled, cosines, threshold, guarded=guarded))
    for kind in sorted({pair.kind for pair in labelled}):
        of_kind = [(p, c) for p, c in zip(labelled, cosines, strict=True) if p.kind == kind]
        near = sum(cosine >= 0.95 for _, cosine in of_kind)
        kept = sum(cosine >= 0.95 and differs(pair.one, pair.other) is None for pair, cosine in of_kind)
        print(f"{kind:10} {len(of_kind):4} pairs, at 0.95 {near:4} without guards, {kept:4} with")


def _row(labelled: Sequence[Pair], cosines: Sequence[float], threshold: float, *, guarded: bool) -> str:
    hits = [
        pair
        for pair, cosine in zip(labelled, cosines, strict=True)
        if cosine >= threshold and not (guarded and differs(pair.one, pair.other))
    ]
    same, wrong = sum(pair.same for pair in hits), sum(not pair.same for pair in hits)
    whole = sum(pair.same for pair in labelled)
    share = wrong / len(hits) if hits else 0.0
    return f"{threshold:8.2f}  {guarded!s:6}  {len(hits):4}  {same / whole:11.1%}  {wrong:10}  {share:7.1%}"


def _cosines(labelled: Sequence[Pair]) -> list[float]:
    import wordllama

    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    one = model.embed([pair.one for pair in labelled], norm=True)
    other = model.embed([pair.other for pair in labelled], norm=True)
    return [float(cosine) for cosine in np.sum(one * other, axis=1)]


if __name__ == "__main__":
    main()
