"""Distil a small bilingual reranker base from a sentence encoder: the recipe of the bonus lesson."""
