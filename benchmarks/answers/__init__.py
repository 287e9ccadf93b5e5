"""Whole studies in virtual time through the product's own StudyRunner, judged by what would really have been cheapest.

Here: the world (`nature`, `routing`, `world`), what is true of it (`truth`), what an answer was worth (`score`).
"""
