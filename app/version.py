"""The version of Runwait."""

__version__ = "0.1.0"
