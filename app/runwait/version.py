"""The version of Runwait."""

__version__ = "0.2.0"
