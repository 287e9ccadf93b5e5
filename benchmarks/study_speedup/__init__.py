"""How a study shortens with the GPUs that are free: whole studies in virtual time, by the product's own workers.

Here: the clock that several workers share, the study on it, what it shows. The world is that of `benchmarks.answers`.
"""
