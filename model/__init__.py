"""What judges the product: the reference model, exploration, fuzzing, and the command that runs them.

The wheel has this folder as the package `statemachine_model`, because many projects have a module `model` of their own.
So imports in here are relative, and what names a module by text asks `__package__`.
"""

try:
    import statemachine.guard as _guard  # noqa: F401  (says so if another distribution is in our place)
except ModuleNotFoundError as _missing:
    raise ImportError(
        "the import name 'statemachine' is taken by another distribution (python-statemachine?), not by this one; "
        "use one of them per environment"
    ) from _missing
