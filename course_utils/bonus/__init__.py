"""How the bundled model was made (lesson 10): a small reranker distilled from a bilingual sentence encoder.

Begin with ``python -m course_utils.bonus.build --help``. The room is its modules, in the order of the build: ``texts``,
``vocabulary``, ``teacher``, ``label``; then ``student``, ``lists``, ``losses``, ``peers``, ``muon``, ``stages``.
"""

__all__ = []
