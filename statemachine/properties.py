"""What must hold, as named objects (semantics.md section 6)."""


def check(session: object) -> None:
    """Placeholder."""
