"""The version of Runwait, and whether the packages around it are of versions that it works with."""

from __future__ import annotations

import sys
from importlib import metadata

__version__ = "0.5.0"


def check_requirements() -> None:
    """Leave with one line if a package that Runwait needs is missing, too old or too new.

    Called before anything of these packages is imported, which could fail in many ways.
    """
    if problems := unmet():
        sys.exit(f"runwait: {'; '.join(problems)}")


def unmet(distribution: str = "runwait") -> list[str]:
    """Describe each direct requirement of an installed distribution that is not met."""
    try:
        declared = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []  # it runs from its folder: nothing says what it needs
    from packaging.requirements import Requirement

    problems = []
    for requirement in map(Requirement, declared):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            problems.append(f"{wanted} is needed, and not installed")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            problems.append(f"{wanted} is needed, and {requirement.name} {found} is installed")
    return problems
