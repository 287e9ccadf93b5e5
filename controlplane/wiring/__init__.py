"""Builds the adapters and gives them to the use cases: the only room that knows both, a file for each kind of process.

What only some processes need is imported where it is built: Locust's runner, Optuna, scipy and the compiled twin are
200 MiB and three seconds that the command line, the api and the controller do without.
"""
