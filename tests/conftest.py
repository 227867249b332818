"""What all tests share: failed asserts of the scenario helper show their values."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.scenario")
