"""A module that cannot be imported."""

raise RuntimeError("in the module")
