"""How the command line prints: tables, progress lines, the report of a study.

Here: values in, text out. Not here: arguments, HTTP.
"""
