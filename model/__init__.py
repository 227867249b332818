"""Judges the product: the reference model, exploration, fuzzing, and the command that runs them.

The wheel has this folder as the package `statemachine_model`, because many projects have a module `model` of their own.
So imports in here are relative, and code that names a module by text uses `__package__`.
"""

try:
    import statemachine.guard as _guard  # noqa: F401  (raises if another distribution has this name)
except ModuleNotFoundError as _missing:
    raise ImportError(
        "the import name 'statemachine' is taken by another distribution (python-statemachine?), not by this one; "
        "use one of them per environment"
    ) from _missing
