"""From what people wrote to values of the domain: files, YAML, and what to say of fields that are wrong.

Here: text in, a value or one InvalidInput out. Not here: what the values mean (domain), where files lie (settings).
"""
