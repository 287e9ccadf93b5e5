"""The vocabulary and pure policy: values in, values out; time and chance are arguments.

Here: pydantic and the standard library. Not here: files, sockets, databases, clocks.
"""
