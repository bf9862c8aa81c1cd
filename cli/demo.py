"""Placeholder."""


def demo() -> int:
    """The whole story."""
    return 0
