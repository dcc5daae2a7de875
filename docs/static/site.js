// Small things that need a script; every page reads well without it.
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("button.print")) {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  }
  // What is wider than the screen is scrolled by itself, and must be reached by keyboard, too.
  const reach = () => {
    for (const box of document.querySelectorAll("pre, .table-wrapper, .output, .cell_output > div")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  reach();
  window.addEventListener("resize", reach);
  document.addEventListener("toggle", reach, true);
  // Answers and hints are printed unfolded.
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
});
// Excerpts of search results are fetched, which a browser refuses on file:// pages: there the results show titles alone.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
