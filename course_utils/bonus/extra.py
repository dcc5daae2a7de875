"""Packages that only this room needs; the course itself runs without them."""

from importlib import import_module

from course_utils.errors import InputError


def extra(name):
    """Return the module ``name`` of the extra "bonus"; raise InputError with the way to install it when it is missing."""
    try:
        return import_module(name)
    except ImportError:
        raise InputError('Building the base needs {name}: pip install "reranker-course[bonus]".', name=name) from None
