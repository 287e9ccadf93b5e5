"""A small evolution strategy for rough objectives: replayed schedules jump when one request lands a step later.

Separable CMA-ES (Ros & Hansen 2008): a Gaussian cloud whose centre and widths follow the better half of its samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tuner.twin.compiled_state import Floats


def minimise(
    objective: Callable[[Floats], float], start: Floats, width: Floats, *, generations: int, seed: int
) -> Floats:
    """Return the point with the lowest value found. `start` and `width` (n): centre and first spread."""
    random = np.random.default_rng(seed)
    n = len(start)
    samples = 4 + int(3 * np.log(n))
    parents = samples // 2
    weights = np.log(parents + 0.5) - np.log(np.arange(1, parents + 1))
    weights /= weights.sum()
    effective = 1 / float(np.sum(weights**2))
    step_rate, path_rate = (effective + 2) / (n + effective + 5), 4 / (n + 4)
    rank_one = 2 / ((n + 1.3) ** 2 + effective) * (n + 2) / 3
    rank_many = min(1 - rank_one, 2 * (effective - 2 + 1 / effective) / ((n + 2) ** 2 + effective) * (n + 2) / 3)
    expected = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
    centre, sigma, spread = start.copy(), 1.0, width**2
    step_path, cloud_path = np.zeros(n), np.zeros(n)
    best, best_value = start.copy(), objective(start)
    for _ in range(generations):
        noise = random.standard_normal((samples, n))
        points = centre + sigma * np.sqrt(spread) * noise
        values = np.array([objective(point) for point in points])
        order = np.argsort(values)
        if values[order[0]] < best_value:
            best, best_value = points[order[0]].copy(), float(values[order[0]])
        chosen = noise[order[:parents]]
        mean = weights @ chosen
        centre = centre + sigma * np.sqrt(spread) * mean
        step_path = (1 - step_rate) * step_path + np.sqrt(step_rate * (2 - step_rate) * effective) * mean
        cloud_path = (1 - path_rate) * cloud_path + np.sqrt(path_rate * (2 - path_rate) * effective) * mean
        spread = spread * (1 - rank_one - rank_many + rank_one * cloud_path**2 + rank_many * (weights @ chosen**2))
        sigma *= float(np.exp(step_rate / 2 * (np.linalg.norm(step_path) / expected - 1)))
    return centre if objective(centre) < best_value else best
