"""The compiled libraries: which were built, which are loaded, and why one is not."""


def loaded(name: str) -> bool:
    """Whether the compiled library "cpu" or "cuda" is loaded."""
    return False


def reason(name: str) -> str:
    """Why the library "cpu" or "cuda" is not loaded, and what to do."""
    return "not built"
