"""The version of this installation. A worker of another one is refused: the two would misread each other."""

from importlib.metadata import PackageNotFoundError, version

PACKAGE = "training-control-center"


def installed(package: str) -> str | None:
    """The version of a package, without importing it; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


OWN = installed(PACKAGE)
