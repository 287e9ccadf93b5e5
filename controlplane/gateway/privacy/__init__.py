"""What is looked for in requests and taken out of answers: where texts lie in bodies and events, and who looks.

Here: the walk over JSON, the passage of answers, Presidio, the classifier. Not here: patterns and cutting (`domain`).
"""
