"""What the course claims, measured: each file is one command, ``python -m benchmarks.NAME``, and writes its page beside it.

Begin with ``python -m benchmarks.real_sets --help``; what the commands share is in ``common`` and ``lists``.
"""
