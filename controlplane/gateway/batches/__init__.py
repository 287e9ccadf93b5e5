"""Batches: OpenAI's files and batches on the gateway's disk, and running their lines through its own pipeline.

Here: files, the journal, the runner, the HTTP door. Not here: what a batch is and says (`domain.door.batch`).
"""
