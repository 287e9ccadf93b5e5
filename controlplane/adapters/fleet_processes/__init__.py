"""The Fleet port on child processes of one host: `fleet` is the port, the other files what it is made of.

Here: processes, their devices, records and failures. Not here: which engines are wanted.
"""
