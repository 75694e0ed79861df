// gradio opens a menu again when Tab leaves it: it is not to see that key. The browser moves on all the same.
document.addEventListener("keydown", (event) => {
  if (event.key === "Tab" && event.target.getAttribute("role") === "combobox") event.stopPropagation();
}, true);

// Ctrl+Enter draws what is in front, Escape stops it.
document.addEventListener("keydown", (event) => {
  const visible = (id) => [...document.querySelectorAll(`#${id}`)].find((each) => each.offsetParent !== null);
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const button = visible("draw-grid") || visible("draw");
    if (button) { event.preventDefault(); button.focus(); button.click(); }
  }
  if (event.key === "Escape") {
    const button = visible("stop-grid") || visible("stop");
    if (button && !button.disabled) button.click();
  }
});
