// Sets the formulas of a page with KaTeX, again whenever the theme has shown another page without loading it.
document$.subscribe(({ body }) => {
  renderMathInElement(body, {
    delimiters: [{ left: "\\[", right: "\\]", display: true }, { left: "\\(", right: "\\)", display: false }],
    throwOnError: true,
  });
});
