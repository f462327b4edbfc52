// Keys that are pressed in a tlkit widget belong to its control. Without this, JupyterLab and Notebook 7 take arrow keys
// and letters for commands of the notebook: they select another cell, or insert one.
//
// The mark must sit on the element that has the focus. Capturing on the window comes before the notebook, which listens
// on the document. Escape stays the way back to the notebook, and Ctrl, Alt and Cmd combinations stay its shortcuts.
const MARK = "data-lm-suppress-shortcuts";

function guard(event) {
  const target = event.target;
  if (!(target instanceof Element) || !target.closest(".tlkit-widget")) return;
  const forNotebook = event.key === "Escape" || event.ctrlKey || event.altKey || event.metaKey;
  target.toggleAttribute(MARK, !forNotebook);
}

function render({ el }) {
  el.style.display = "none";
  window.addEventListener("keydown", guard, true);
  return () => window.removeEventListener("keydown", guard, true);
}

export default { render };
