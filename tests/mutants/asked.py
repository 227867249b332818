"""Imports the slots, for a test that plants another text for them."""

import statemachine.core.slots

print(statemachine.core.slots.__name__)
