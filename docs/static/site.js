// What assistive technology needs and the theme leaves out.
addEventListener("DOMContentLoaded", () => {
  for (const caption of document.querySelectorAll("p.caption[role=heading]")) {
    caption.ariaLevel = 2;
  }
  const wide = "pre, .table-wrapper, .math-wrapper, .cell_output .output";
  for (const region of document.querySelectorAll(wide)) region.tabIndex = 0;
});
