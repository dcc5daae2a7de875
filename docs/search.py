"""Search that finds Chinese words: jieba cuts the pages, and the browser cuts what was typed by the words of the index."""

import logging

from sphinx.search.zh import SearchChinese

# Chinese has no spaces, so a query arrives as one long word. It is cut into the longest words that the index knows; what it does
# not know is left out where something else remains. Other writing is cut at what is neither letter nor digit, as Sphinx does.
CUT = r"""
var splitQuery = (query) => {
  const known = new Set([...Object.keys(Search._index.terms), ...Object.keys(Search._index.titleterms)]);
  const out = [], unknown = [];
  for (const part of query.toLowerCase().split(/[^\p{Letter}\p{Number}_]+/u).filter(Boolean)) {
    for (const run of part.match(/\p{Script=Han}+|[^\p{Script=Han}]+/gu)) {
      if (!/\p{Script=Han}/u.test(run)) { out.push(run); continue; }
      for (let at = 0; at < run.length; ) {
        let end = run.length;
        while (end > at + 1 && !known.has(run.slice(at, end))) end -= 1;
        const word = run.slice(at, end);
        (known.has(word) ? out : unknown).push(word);
        at = end;
      }
    }
  }
  return out.length ? out : unknown;
};
"""
QUESTIONS = {"什么", "怎么", "怎样", "如何", "为什么", "哪些", "哪个", "的", "是", "了", "吗", "呢", "和", "在"}


class Words(SearchChinese):
    """Sphinx's Chinese index with single characters in it, and a query cut as the index is."""

    language_name = "English"  # names the stemmer's class in the browser: the stemmer that Sphinx sends with Chinese is that of English
    js_splitter_code = CUT
    stopwords = SearchChinese.stopwords | QUESTIONS

    def __init__(self, options):
        """Read the course's terms (option "dict") beside jieba's own words, without jieba's remarks."""
        logging.getLogger("jieba").setLevel(logging.WARNING)
        super().__init__(options)

    def word_filter(self, stemmed_word):
        """Keep words of two letters or more, and every Chinese character: 层 is a word."""
        return len(stemmed_word) > 1 or "\u4e00" <= stemmed_word <= "\u9fff"
