"""The judges: networks that read attributes, head pose and classes from visible pictures, to evaluate what was generated.

They have people, seeds and architectures of their own. Nothing that makes, filters or trains a model may see them: their
training tasks and the evaluation alone import this package (`tests/models/judges/test_apart.py`).
"""
