"""What judges the product: the reference model, exploration, fuzzing, and the command that runs them."""

import statemachine.guard as _guard  # noqa: F401  (says so if another distribution is in our place)
