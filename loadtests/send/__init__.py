"""Traces, arrivals, prompts, profiles and the client; the runner of the Locust child process.

Here: everything up to the bytes on the wire. Not here: judging what came back.
"""
