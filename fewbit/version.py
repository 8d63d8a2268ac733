"""The version of fewbit."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fewbit")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+source"
